#!/bin/sh
# Makes the function's code in FOLDER.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
cargo build --quiet --release --locked --target-dir "$folder/../rust-target"
install -m 755 "$folder/../rust-target/release/bootstrap" "$folder/bootstrap"
