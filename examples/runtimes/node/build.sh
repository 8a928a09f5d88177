#!/bin/sh
# Makes the function's code in FOLDER. The runtime client has a part in C++, which is compiled beside it; what that takes,
# 150 MB of it, stays there.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
for tool in autoconf automake libtoolize cmake make g++ python3 npm; do
    command -v "$tool" > /dev/null || {
        echo "$tool is missing; in Debian: apt-get install autoconf automake libtool cmake make g++ python3 npm" >&2
        exit 1
    }
done
mkdir -p "$folder-build"
cp package.json package-lock.json "$folder-build/"
(cd "$folder-build" && npm ci --no-progress --no-audit --no-fund --loglevel=error)
client=node_modules/aws-lambda-ric
mkdir -p "$folder/$client"
for part in bin dist package.json LICENSE NOTICE THIRD-PARTY-LICENSES; do
    cp -R "$folder-build/$client/$part" "$folder/$client/"
done
install -m 755 bootstrap "$folder/bootstrap"
install -m 644 index.mjs package.json "$folder/"
