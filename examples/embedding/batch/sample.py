"""Write sample events, one a line: `python -m batch.sample 1000 > events.jsonl`."""

import json
import random
import sys


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    dice = random.Random(1)
    for number in range(count):
        path, status = dice.choice(["/", "/about", "/feed.xml", "/admin"]), dice.choice([200, 200, 200, 304, 404])
        client, size = f"192.0.2.{dice.randrange(256)}", dice.randrange(9000)
        line = f'{client} - - [21/Nov/2026:10:00:00 +0000] "GET {path} HTTP/1.1" {status} {size}'
        print(json.dumps({"line": line if number % 100 != 42 else line[:30]}))  # now and then half a line


if __name__ == "__main__":
    main()
