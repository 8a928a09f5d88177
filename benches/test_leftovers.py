"""SPECIFICATION: a thousand environments made and destroyed leave nothing behind."""

from measuring import traces

import coldframe

ENVIRONMENTS = 1000


def test_nothing_is_left(benchmark, function):
    with coldframe.Host() as host:
        function(host)({})  # whatever the process opens once and keeps is there before the count
    before = traces()

    def all_of_them() -> None:
        with coldframe.Host() as host:
            fn = function(host, reuse=False)
            assert sum(1 for _ in fn.map({"n": n} for n in range(ENVIRONMENTS))) == ENVIRONMENTS

    benchmark.pedantic(all_of_them, rounds=1)
    assert traces() == before
