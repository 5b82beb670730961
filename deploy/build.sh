#!/usr/bin/env bash
# Installs what is missing, then configures and builds everything into build/. deploy/test.sh and
# deploy/demo.sh begin with it. Arguments go to `cmake --build`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
deploy/bootstrap.sh

mkdir -p build
log=build/build.log
attempt() {
  "$@" >"$log" 2>&1 || { tail -n 60 "$log" >&2; echo "build: failed (whole log: $log)" >&2; exit 70; }
}

# A libtorch translation unit takes up to 1.5 GB.
jobs=$(( $(awk '/MemAvailable/ {print $2}' /proc/meminfo) / 1500000 ))
cores=$(nproc)
jobs=$(( jobs > cores ? cores : jobs < 1 ? 1 : jobs ))

[ -e build/CMakeCache.txt ] || export CMAKE_GENERATOR=Ninja
attempt cmake -S . -B build -DKPOOL_DEPS="$PWD/.deps"
echo "build: compiling with $jobs jobs (progress: $log)"
attempt cmake --build build -j "$jobs" "$@"
