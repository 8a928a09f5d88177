#!/bin/sh
# Makes the function's code in FOLDER. The runtime client has a part in C++, which is compiled here.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
for tool in autoconf automake libtoolize cmake make g++ npm; do
    command -v "$tool" > /dev/null || { echo "$tool is missing; in Debian: apt-get install autoconf automake libtool cmake make g++ npm" >&2; exit 1; }
done
install -m 755 bootstrap "$folder/bootstrap"
install -m 644 index.mjs package.json package-lock.json "$folder/"
cd "$folder"
npm ci --no-progress --no-audit --no-fund --loglevel=error
