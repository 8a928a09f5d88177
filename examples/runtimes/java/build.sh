#!/bin/sh
# Makes the function's code in FOLDER: its classes, and the jars that they need.
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")"
mvn --quiet --batch-mode -DoutputDirectory="$folder/lib" -DincludeScope=runtime \
    dependency:copy-dependencies
mkdir -p "$folder/classes"
javac --release 17 -encoding UTF-8 -cp "$folder/lib/*" -d "$folder/classes" src/main/java/example/Greeter.java
install -m 755 bootstrap "$folder/bootstrap"
