"""Container images for tests, made by hand: files of the host in layers, as a layout or as Docker saves it."""

import gzip
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import tarfile
from functools import cache
from pathlib import Path

from programs import PYTHON

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
MODULES = "json, os, signal, subprocess, sys, threading, time, http.client, http.server, ctypes, socket, encodings.idna"


@cache
def interpreter():
    """Return a layer with what the host's Python needs to run a bootstrap."""
    script = f"import {MODULES}; print(*(getattr(each, '__file__', None) or '' for each in sys.modules.values()))"
    modules = subprocess.run([PYTHON, "-I", "-c", script], check=True, capture_output=True, text=True).stdout
    paths = {PYTHON, *modules.split()}
    native = [PYTHON, *(path for path in paths if ".so" in path)]
    linked = subprocess.run(["ldd", *native], check=True, capture_output=True, text=True).stdout
    paths |= set(re.findall(r"(/\S+) \(0x", linked))
    return layer([(path, Path(path).read_bytes(), 0o755) for path in sorted(paths) if Path(path).is_file()])


def layer(entries):
    """Return a tar archive of entries: (path, content, mode), or a `TarInfo` with its content or None."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry[0], tarfile.TarInfo):
                info, content = entry
            else:
                path, content, mode = entry
                content = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(path.lstrip("/"))
                info.mode = mode
            if content is not None:
                info.size = len(content)
            archive.addfile(info, None if content is None else io.BytesIO(content))
    return made.getvalue()


def special(name, kind, target="", **more):
    """Return an entry that is no file: its type as `tarfile` calls it, such as `SYMTYPE`."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for attribute, value in more.items():
        setattr(info, attribute, value)
    return info, None


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def blob(folder, content, kind, **more):
    """Write a blob to a layout and return its descriptor."""
    path = folder / "blobs/sha256" / digest(content)[7:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(content), "size": len(content), **more}


def configuration(layers, **config):
    """Return the configuration of an image, as bytes."""
    value = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
    }
    return json.dumps(value).encode()


def layout(folder, layers, *, compress=False, **config):
    """Make a layout directory of layers, each a list of entries or a finished archive."""
    layers = [each if isinstance(each, bytes) else layer(each) for each in layers]
    packed = [gzip.compress(each, 1) if compress else each for each in layers]
    kind = "layer.v1.tar+gzip" if compress else "layer.v1.tar"
    manifest = {
        "schemaVersion": 2,
        "config": blob(folder, configuration(layers, **config), "config.v1+json"),
        "layers": [blob(folder, each, kind) for each in packed],
    }
    platform = {"os": "linux", "architecture": ARCHITECTURE}
    index = [blob(folder, json.dumps(manifest).encode(), "manifest.v1+json", platform=platform)]
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": index}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def saved(path, layers, **config):
    """Make an archive as older versions of `docker save` do."""
    layers = [each if isinstance(each, bytes) else layer(each) for each in layers]
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["test:latest"], "Layers": names}]
    files = [("config.json", configuration(layers, **config), 0o644)]
    files += [(name, content, 0o644) for name, content in zip(names, layers, strict=True)]
    path.write_bytes(layer([*files, ("manifest.json", json.dumps(manifest), 0o644)]))
    return path


def tarred(path, folder):
    """Make an archive of a layout, as newer versions of `docker save` do."""
    with tarfile.open(path, "w") as archive:
        for name in sorted(os.listdir(folder)):
            archive.add(folder / name, name)
    return path
