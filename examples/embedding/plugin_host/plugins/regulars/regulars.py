"""Greets who has come three times. The counts are the state that the application keeps for this plug-in."""


def handler(event, context):
    counts = event["state"] or {}
    if event["hook"] == "comment":
        author = event["data"]["author"]
        counts[author] = counts.get(author, 0) + 1
        if counts[author] >= 3:
            return {"labels": ["regular"], "state": counts}
    return {"state": counts}
