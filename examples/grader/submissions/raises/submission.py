"""A submission with a bug."""


def handler(event: dict[str, list[float]], context: object) -> float:
    """Divide by nothing."""
    return sum(event["numbers"]) / 0
