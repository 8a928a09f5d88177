"""A batch: many events, results as they come, failures tried again, and Ctrl-C at any time."""
