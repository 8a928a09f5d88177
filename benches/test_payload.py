"""SPECIFICATION: a 5 MB event and response cost at most 2.0 times their JSON, encoded and decoded in one process."""

import json

from measuring import ratio, timed

SIZE = 5_000_000


def test_large_payloads_against_their_json(alternately, promise, function, host):
    fn = function(host, timeout_s=30)
    # One long text, as an upload in base64 is: the shape in which JSON costs least, and copies would show most.
    event = {"isBase64Encoded": True, "body": "c29tZSB0ZXh0" * (SIZE // 12)}
    assert fn(event) == event

    def both_in_one_process() -> None:
        json.loads(json.dumps(json.loads(json.dumps(event))))

    times = alternately(lambda: fn(event), warm_up=3, json=lambda: timed(both_in_one_process))
    promise("5 MB event and response / their JSON in one process", ratio(times, "json"), at_most=2.0, times=times)
