"""The function of a rehearsal: about what a small one looks like."""

import json
import os


def handler(event, context):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as people write them
    """Answer with a bit of everything."""
    name = event.get("name", "world")
    return {"greeting": f"Hello, {name}!", "id": context.aws_request_id, "n": len(json.dumps(event)), "cwd": os.sep}
