"""A tool for an agent: generated Python runs in an environment of its own, with files in and files out."""
