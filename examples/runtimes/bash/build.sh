#!/bin/sh
# Makes the function's code in FOLDER.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
install -m 755 bootstrap "$folder/bootstrap"
install -m 644 function.sh "$folder/function.sh"
