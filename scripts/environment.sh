#!/bin/sh
# Makes .venv in the repository with the package and its extras; at once when that is done already.
# usage: scripts/environment.sh EXTRAS      (for instance: dev, or data,report)
# PYTHON=/path/to/python chooses the interpreter; an environment of another one is made anew.
# Needs Python 3.11 to 3.14 with its venv module; without uv, ensurepip too.
set -eu
cd "$(dirname "$0")/.."
extras=$1

with_uv() {
    command -v uv >/dev/null 2>&1
}

usable() {
    modules=venv
    with_uv || modules=venv,ensurepip
    "$1" -c "import sys, $modules; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))" \
        >/dev/null 2>&1
}

# Whether .venv works and was made with PYTHON, where that is given.
current() {
    usable .venv/bin/python || return 1
    [ -z "${PYTHON:-}" ] || [ "$(origin .venv/bin/python)" = "$(origin "$PYTHON")" ]
}

origin() {
    "$1" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null
}

interpreter() {
    for name in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
        if usable "$name"; then
            echo "$name"
            return
        fi
    done
    echo "no Python 3.11 to 3.14 with its modules venv and ensurepip found;" \
        "PYTHON=/path/to/python names one" >&2
    exit 2
}

install() {
    if with_uv && uv pip install --quiet --python .venv/bin/python "$@"; then
        return
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}

# One at a time: the scripts may be started together.
lock=.venv.lock
until ln -s $$ "$lock" 2>/dev/null; do
    if ! kill -0 "$(readlink "$lock")" 2>/dev/null; then
        rm -f "$lock"
    else
        sleep 1
    fi
done
trap 'rm -f "$lock"' EXIT
trap 'exit 130' INT TERM HUP

wanted=$(cksum pyproject.toml; pwd)
if current; then
    for stamp in ".venv/installed-$extras" .venv/installed-dev; do
        if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
            exit 0
        fi
    done
fi
if ! current; then
    python=$(interpreter)
    echo "Making the environment .venv with $("$python" --version)"
    rm -rf .venv
    if ! "$python" -c 'import ensurepip' 2>/dev/null; then
        set -- --without-pip # uv needs none
    else
        set --
    fi
    "$python" -m venv "$@" .venv
fi
echo "Installing learned-opt[$extras]"
install -e ".[$extras]"
echo "$wanted" >".venv/installed-$extras"
