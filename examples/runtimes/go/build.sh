#!/bin/sh
# Makes the function's code in FOLDER: one static program.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
CGO_ENABLED=0 go build -tags lambda.norpc -ldflags="-s -w" -o "$folder/bootstrap" .
