#!/bin/sh
# Makes the function's code in FOLDER, for the Python that an environment finds on its PATH.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
python=$(PATH=/usr/local/bin:/usr/bin:/bin command -v python3)
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
python3 -m pip install --quiet --disable-pip-version-check --no-compile --upgrade --only-binary :all: \
    --python-version "$version" --target "$folder" "awslambdaric==4.*"
install -m 755 bootstrap "$folder/bootstrap"
install -m 644 app.py "$folder/app.py"
