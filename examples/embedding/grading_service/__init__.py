"""A service that grades what people hand in: programs that nobody has read, run against cases, over HTTP."""
