#!/bin/sh
# Makes the environment and runs the tests; arguments go to pytest: scripts/test.sh -m slow
set -eu
cd "$(dirname "$0")/.."
scripts/environment.sh dev
exec .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
