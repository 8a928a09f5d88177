"""What runs inside zygotes and execution environments, and nowhere else.

This folder is mounted at `/var/runtime/coldframe_runtime` and imported there under that name. It uses the standard
library only and works on CPython 3.9 and later, whichever one embeds coldframe. Every module loaded here is mapped
into every environment, so each import is a decision.

    zygote       starts an interpreter, preloads packages, forks environments on request
    environment  the life of one environment: initialise, then one invocation after the other
    wire         messages on the control socket
    handler      finds the handler that the function names
    context      the handler's second argument
    marshalling  JSON in and out, as Lambda's Python runtime encodes it
    errors       Lambda's error payloads
    logs         the root logger, and the error block in the log
    output       sys.stdout and sys.stderr
    randomness   fresh random state after a fork
    snapshot     what is done before an initialised function is forked, and in each copy of it
    hooks        what `import snapshot_restore_py` means where it is not installed
    inside       what `import coldframe` means inside an environment
"""
