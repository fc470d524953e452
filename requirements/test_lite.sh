#!/usr/bin/env bash
# requirements/test_lite.sh PYTHON TEST...: run tests of the half without
# torch, in .venv-lite-X.Y with the packages of `pip install` and the test
# tools.
set -eu
cd "$(dirname "$0")/.."
PYTHON=$1
shift
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
VENV=.venv-lite-$version
echo "== tests without torch: Python $version"
"$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip --quiet --disable-pip-version-check install \
    'setuptools>=61' wheel $(grep -E '^(pytest|hypothesis)==' requirements/dev.txt)
# Not editable: the tests use the package that users install. Pytest finds the
# package tests in the checkout, but must find the installed tcal_det first, so
# the checkout comes last in sys.path. An old build folder would add modules
# that have been removed.
rm -rf build
"$VENV/bin/python" -m pip --quiet --disable-pip-version-check install \
    '.[report]'
"$VENV/bin/pytest" -o pythonpath= --import-mode=append "$@"
