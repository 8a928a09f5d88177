"""How long hypothesis looks: a moment, always at the same examples, or longer and at any in `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

# A deadline would measure the machine, and the host that the tests of a module share is no state of theirs.
settings.register_profile(
    "moment",
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
_SECONDS = os.environ.get("COLDFRAME_FUZZ_S")
# An example takes some milliseconds, a hundredth of a second where the machine is busy.
settings.register_profile(
    "fuzz", settings.get_profile("moment"), derandomize=False, max_examples=max(100, int(20 * float(_SECONDS or 0)))
)
settings.load_profile("fuzz" if _SECONDS else "moment")
