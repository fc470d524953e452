#!/usr/bin/env bash
# requirements/find_pythons.sh FIRST LAST: print the oldest and the newest
# Python from 3.FIRST to 3.LAST that are installed on this machine.
set -eu
found=
for minor in $(seq "$1" "$2"); do
    for candidate in "python3.$minor" \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"3.$minor".*/bin/python; do
        if "$candidate" -c '' 2>/dev/null; then
            found="$found $candidate"
            break
        fi
    done
done
set -- $found
if [ $# -gt 1 ]; then
    echo "$1 ${!#}"
else
    echo "$*"
fi
