"""Stumbles over comments without a rating, and is called again with the next one."""


def handler(event, context):
    if event["hook"] == "load":
        return {}
    return {"labels": ["praise"] if event["data"]["rating"] > 3 else []}
