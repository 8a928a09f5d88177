"""What runs inside, beside a submission, as a layer. Nothing here is trusted, and no expected answer comes this far."""

import importlib


def handler(event: dict[str, object], context: object) -> object:
    """Call the submission's `solve` with the inputs of one case, by their names."""
    # Not imported at the top, so that what a submission does when it is imported is on the clock of its case.
    return importlib.import_module("submission").solve(**event)
