"""Rejects comments that are mostly links."""

import re


def handler(event, context):
    if event["hook"] == "load":
        return {}
    links = len(re.findall(r"https?://", event["data"]["text"]))
    if links > 2:
        return {"reject": f"{links} links"}
    return {"labels": ["links"] if links else []}
