"""The state between calls: the files of one conversation, kept out here."""

from typing import Any

import coldframe

from .files import TooMuch
from .tool import PythonTool


class Workspace:
    """What the application does with a model's tool calls: check them, run them, keep the files."""

    def __init__(self, tool: PythonTool, files: dict[str, bytes] | None = None) -> None:
        self.tool = tool
        self.files = files or {}

    def call(self, arguments: object) -> dict[str, Any]:
        """Carry out one call of the tool and return what the model is told. Its arguments may be anything."""
        match arguments:
            case {"code": str(code), **rest} if not rest:
                pass
            case _:
                return {"error": 'the arguments must be {"code": "…"}'}
        try:
            result = self.tool.run(code, self.files)
        except (TooMuch, coldframe.PayloadError, coldframe.ThrottledError) as error:
            return {"error": str(error)}
        self.files |= result.files
        return result.for_model()
