"""A handler that spins has the processor for as long as its quota lasts, and without one for as long as it likes."""

import pytest

BURN = """
    import time
    def handler(seconds, context):
        begun = time.process_time()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return time.process_time() - begun
"""


@pytest.mark.needs("cgroup.cpu")
def test_processor_time_ends_at_the_quota(attack):
    assert attack(BURN, 0.5).payload < 0.08  # a fourteenth of a processor, and a burst


@pytest.mark.needs("cgroup.cpu")
def test_without_the_quota_it_does_not(attack, without):
    assert attack(BURN, 0.5, host=without("cpu")).payload > 0.15  # whatever else this machine does
