#!/bin/sh
# One run by two processes on this machine, as on a cluster; SIGTERM saves and ends both:
#   scripts/two_processes.sh configs/smoke.yaml parallel.devices=2 --out runs/two
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
free='import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
address=127.0.0.1:$("$python" -c "$free")

"$python" "$root/scripts/train.py" "$@" --coordinator "$address" --processes 2 --process-id 1 &
second=$!
"$python" "$root/scripts/train.py" "$@" --coordinator "$address" --processes 2 --process-id 0 &
first=$!
trap 'kill -TERM $first $second 2>/dev/null || true' INT TERM

ended() { # its exit code; a signal ends `wait`, but not the process
    code=0
    wait "$1" || code=$?
    while kill -0 "$1" 2>/dev/null; do
        code=0
        wait "$1" || code=$?
    done
    return $code
}
result=0
ended $first || result=$?
ended $second || result=$?
exit $result
