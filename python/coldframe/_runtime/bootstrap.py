"""The interpreter as a process that speaks Lambda's Runtime API: for functions that have extensions or an exec wrapper.

Started as a script, by itself or by the wrapper, with nothing on its path but the standard library's usual places.
"""

import json
import os
import sys

_settings = json.loads(os.environ.pop("_COLDFRAME"))
os.environ.pop("_LAMBDA_TELEMETRY_LOG_FD", None)
sys.path[:] = ["/var/runtime", *_settings["stdlib"]]

from coldframe_runtime.api import ApiChannel  # type: ignore[import-not-found]  # noqa: E402 - its name in here
from coldframe_runtime.environment import (  # type: ignore[import-not-found]  # noqa: E402
    Environment,
    main,
)

sys.path.remove("/var/runtime")
_channel = ApiChannel(dict(os.environ), _settings["packages"], _settings["arn"])
main(Environment(sys.modules.keys(), sys.path, _channel))
