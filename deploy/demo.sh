#!/usr/bin/env bash
# The main job on this machine: streams real text of five domains through a daemon and its gateway, shows
# what it learns while it learns it, and ends with a table. KPOOL_DEMO_PORT: the daemon's port (7447).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
deploy/build.sh
exec python3 -B deploy/demo.py
