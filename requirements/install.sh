#!/usr/bin/env bash
# requirements/install.sh VENV [PYTHON] [STACK]; `make setup` calls it.
# Creates the environment VENV with one of the two supported stacks
# (classic.txt, modern.txt), the test tools and tcal_det itself.
set -eu
cd "$(dirname "$0")/.."
VENV=$1
PYTHON=${2:-}
STACK=${3:-}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

stack_for() {
    case $(version_of "$1") in
        3.8 | 3.9 | 3.10 | 3.11) echo classic ;;
        3.12) echo modern ;;
    esac
}

if [ -z "$PYTHON" ]; then
    for candidate in python3.11 python3.10 python3.9 python3.8 python3.12 \
        python3 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python; do
        found=$(stack_for "$candidate")
        if [ -n "$found" ] && [ "$found" = "${STACK:-$found}" ]; then
            PYTHON=$candidate
            break
        fi
    done
fi
if [ -z "$PYTHON" ] || [ -z "$(stack_for "$PYTHON")" ]; then
    echo "error: no Python for the ${STACK:-classic or modern} stack:" \
        "classic needs Python 3.8 to 3.11, modern 3.12; install one, or run" \
        "make setup PYTHON=/path/to/python" >&2
    exit 2
fi
STACK=${STACK:-$(stack_for "$PYTHON")}
if [ "$STACK" != "$(stack_for "$PYTHON")" ]; then
    echo "error: STACK must be $(stack_for "$PYTHON") for Python" \
        "$(version_of "$PYTHON") ($PYTHON), but got $STACK" >&2
    exit 2
fi

echo "== $STACK stack in $VENV, from $PYTHON (Python $(version_of "$PYTHON"))"
"$PYTHON" -m venv "$VENV"
pip() {
    "$VENV/bin/python" -m pip --disable-pip-version-check "$@"
}

echo "== torch, mmengine, mmdet and the test tools (several GB at first)"
pip install --quiet -r "requirements/$STACK.txt" -r requirements/dev.txt

if [ "$STACK" = classic ]; then
    MMCV=mmcv==2.1.0
else
    MMCV=onedl-mmcv==2.3.6
fi
# --no-deps: without it, pip would install newer numpy and opencv for mmcv.
if "$VENV/bin/python" -c 'import mmcv.ops' 2>/dev/null; then
    echo "== $MMCV: already installed"
elif pip install --quiet --no-deps --only-binary :all: $MMCV 2>/dev/null; then
    echo "== $MMCV: prebuilt"
else
    echo "== $MMCV: no prebuilt wheel for this torch; it comes from pip's" \
        "cache or is compiled, which takes 7 to 15 minutes on 2 cores"
    export MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)}
    pip install --quiet --no-deps --no-build-isolation $MMCV
fi
pip install --quiet --no-deps --no-build-isolation --editable .
"$VENV/bin/python" -c 'import mmcv.ops, mmdet.models, tcal_det.models'
echo "== ready: $VENV"
