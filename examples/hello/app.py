"""The smallest handler there is: a greeting."""

from typing import Any


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """Greet whoever the event names."""
    return {"message": f"Hello, {event.get('name', 'world')}!"}
