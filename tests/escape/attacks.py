"""Handlers that several attacks share."""

EVALUATE = """
import array, ctypes, errno, fcntl, glob, json, mmap, os, pwd, signal, socket, stat, subprocess, sys, time

def answer(expression):
    try:
        value = eval(expression)
    except OSError as error:
        return errno.errorcode[error.errno]
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value

def handler(event, context):
    return answer(event) if isinstance(event, str) else [answer(expression) for expression in event]
"""
"""Evaluates an expression, or a list of them; what raises an OSError answers with its name, such as "ENOENT"."""
