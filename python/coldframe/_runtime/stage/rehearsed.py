"""The function of a rehearsal: what every function does, and no more."""


def handler(event, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, ARG001 - as people write them
    """Answer."""
    return {"name": event["name"]}
