#!/usr/bin/env bash
# Make sure that a few Debian packages are there: as root install what is missing, otherwise print the one line to run.
# Usage: system_packages.sh PACKAGE=PROBE...   where PROBE is a shared library's file name, a command, or python:MODULE.
set -euo pipefail
python=${PYTHON:-python3}

present() {
    case $1 in
        python:*) "$python" -c "import ${1#python:}" 2>/dev/null ;;
        *.so.*) { /sbin/ldconfig -p 2>/dev/null || true; } | grep -qF "$1 " ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# Only Debian and its descendants are known here; elsewhere the import that needs a library names it.
command -v apt-get >/dev/null || exit 0

missing=()
for pair in "$@"; do
    present "${pair#*=}" || missing+=("${pair%%=*}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "Some system packages are missing. Run this, then try again:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "Installing system packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
