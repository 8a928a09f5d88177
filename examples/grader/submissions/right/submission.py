"""The median of a list of numbers, right."""


def handler(event: dict[str, list[float]], context: object) -> float:
    """Sort, then take the middle one, or the mean of the two in the middle."""
    numbers = sorted(event["numbers"])
    middle = len(numbers) // 2
    if len(numbers) % 2:
        return numbers[middle]
    return (numbers[middle - 1] + numbers[middle]) / 2
