"""The median, by someone who forgot that a list may have an even length."""


def handler(event: dict[str, list[float]], context: object) -> float:
    """Sort, then take the middle one."""
    return sorted(event["numbers"])[len(event["numbers"]) // 2]
