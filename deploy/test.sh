#!/usr/bin/env bash
# Bootstraps, builds (also the measuring programs) and runs every test; --full adds those that take minutes. Ends with
# ctest's summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
selection=(--label-exclude '^full$')
case ${1:-} in
  '') ;;
  --full) selection=() ;;
  *) echo "usage: deploy/test.sh [--full]" >&2; exit 64 ;;
esac
deploy/build.sh --target all bench_programs
exec ctest --test-dir build --output-on-failure -j2 "${selection[@]}"
