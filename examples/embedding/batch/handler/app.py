"""What is done with each event: a line of a web server's log becomes its parts."""

import re
from typing import Any

LINE = re.compile(
    r"(?P<client>\S+) \S+ \S+ \[(?P<time>[^]]+)\] "
    r'"(?P<method>\w+) (?P<path>\S+)[^"]*" (?P<status>\d{3}) (?P<size>\d+)'
)


def handler(event: dict[str, str], context: object) -> dict[str, Any]:
    found = LINE.fullmatch(event["line"])
    if found is None:
        raise ValueError("not a line of a log")
    return {**found.groupdict(), "status": int(found["status"]), "size": int(found["size"])}
