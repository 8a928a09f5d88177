"""Programs for environments: bootstraps and extensions, as scripts that speak Lambda's APIs over HTTP."""

import textwrap

PYTHON = "/usr/bin/python3"

CLIENT = f"""\
#!{PYTHON} -I
import json, os, signal, subprocess, sys, threading, time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
api = HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
ROOT = "/2018-06-01/runtime"
EXTENSIONS = "/2020-01-01/extension"
def ask(method, path, body=None, headers={{}}, api=api):
    api.request(method, path, body if body is None or isinstance(body, (bytes, str)) else json.dumps(body), headers)
    response = api.getresponse()
    return response.status, response.headers, response.read()
def following():
    status, headers, body = ask("GET", ROOT + "/invocation/next")
    assert status == 200, (status, body)
    return headers["Lambda-Runtime-Aws-Request-Id"], headers, body
def respond(request, body, what="response", headers={{}}):
    return ask("POST", f"{{ROOT}}/invocation/{{request}}/{{what}}", body, headers)
def register(*events, name=os.path.basename(sys.argv[0]), api=api, **headers):
    status, headers, body = ask(
        "POST", EXTENSIONS + "/register", {{"events": events}}, {{"Lambda-Extension-Name": name, **headers}}, api)
    assert status == 200, (status, body)
    return {{"Lambda-Extension-Identifier": headers["Lambda-Extension-Identifier"]}}, json.loads(body)
def next_event(me, api=api):
    status, headers, body = ask("GET", EXTENSIONS + "/event/next", None, me, api)
    assert status == 200, (status, body)
    return json.loads(body)
"""

LOOP = """\
calls = 0
while True:
    request, headers, body = following()
    calls += 1
    event = json.loads(body)
    respond(request, json.dumps(handle(event, request, headers)))
"""

ECHO = """\
def handle(event, request, headers):
    print("handling", event, flush=True)
    return {"event": event, "calls": calls, "request": request, "headers": dict(headers)}
"""


def program(source):
    """Return the text of a program; one that has a handler gets the loop of a runtime around it."""
    source = textwrap.dedent(source).rstrip() + "\n"
    return CLIENT + source + (LOOP if "def handle(" in source else "")


def executable(path, text):
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
