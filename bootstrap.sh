#!/bin/sh
# Makes .venv from a hash-pinned lock: `bootstrap.sh run` (what users run) or `bootstrap.sh dev` (with the tests' tools).
# requirements-dev.lock holds all of requirements.lock at the same versions, so .venv only ever grows:
# `make run` and `make test` in turn never install anything twice. `bootstrap.sh studio` makes .venv-studio, whose
# packages want other versions.
set -eu
cd "$(dirname "$0")"
want=${1:-run}
uv_version=0.9.0

stop() {
    printf '%s\n' "$@" >&2
    exit 1
}

system() {
    if [ "$(uname -s)" = Darwin ]; then echo macos; elif [ -f /etc/debian_version ]; then echo debian; else echo linux; fi
}

help_python() {
    case $(system) in
        macos) echo "brew install python@3.12" ;;
        debian) echo "sudo apt-get install -y python3 python3-venv" ;;
        *) echo "install the packages python3.12 and python3-pip with your package manager" ;;
    esac
}

usable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null
}

find_python() {
    for python in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$python" >/dev/null 2>&1 && usable "$python"; then
            command -v "$python"
            return
        fi
    done
    if command -v uv >/dev/null 2>&1; then uv python find --no-project '>=3.11,<3.15' 2>/dev/null || true; fi
}

checked_platform() {
    case $(uname -s)/$(uname -m) in
        Darwin/x86_64) stop "Parley needs a Mac with Apple silicon: ONNX Runtime has no build for Intel any more." ;;
    esac
    if [ "$(uname -s)" = Linux ] && ldd --version 2>&1 | grep -qi musl; then
        stop "Parley needs a Linux with glibc (Debian, Ubuntu, Fedora ...): ONNX Runtime has no build for musl."
    fi
}

digest() {
    cat "$@" | cksum
}

# What an environment holds: "<kind> <digest of the run lock> <digest of the dev lock>"; dev serves both.
home=.venv
if [ "$want" = studio ]; then
    home=.venv-studio
    studio_digest=$(digest requirements-studio.lock pyproject.toml)
fi
stamp=$home/.parley
run_digest=$(digest requirements.lock pyproject.toml)
dev_digest=$(digest requirements-dev.lock pyproject.toml)
if [ -x "$home/bin/parley" ] && [ -f "$stamp" ] && "$home/bin/python" -c '' 2>/dev/null; then
    case $want:$(cat "$stamp") in
        "studio:studio ${studio_digest:-}" | "run:run $run_digest" | run:dev\ *" $run_digest" | "dev:dev $dev_digest $run_digest") exit 0 ;;
    esac
    case $want:$(cat "$stamp") in run:dev\ *) want=dev ;; esac  # the lock changed: what is there stays complete
fi

checked_platform
python=$(find_python)
if [ -z "$python" ]; then
    found=$(python3 --version 2>/dev/null || echo "none")
    stop "Parley needs Python 3.11 to 3.14 (found: $found). This helps:" "    $(help_python)"
fi
if command -v uv >/dev/null 2>&1; then
    uv=uv
else
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        stop "Parley needs Python's venv module, which $python lacks. This helps:" "    $(help_python)"
    fi
    uv=.venv-uv/bin/uv
    if [ ! -x "$uv" ]; then
        echo "Getting uv, the installer ..." >&2
        "$python" -m venv .venv-uv
        .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=$uv_version"
    fi
fi

case $want in
    studio) lock=requirements-studio.lock kept="studio $studio_digest" ;;
    dev) lock=requirements-dev.lock kept="dev $dev_digest $run_digest" ;;
    *) lock=requirements.lock kept="run $run_digest" ;;
esac
echo "Installing Parley into $home from $lock ..." >&2
if ! "$home/bin/python" -c '' 2>/dev/null || ! usable "$home/bin/python"; then
    rm -rf "$home"
    "$uv" venv --quiet --python "$python" "$home"
fi
rm -f "$stamp"
VIRTUAL_ENV=$PWD/$home "$uv" pip sync --quiet --require-hashes "$lock"
VIRTUAL_ENV=$PWD/$home "$uv" pip install --quiet --no-deps --editable .
echo "$kept" >"$stamp"
