# Sourced by the scripts beside it: where things are, and how failures are told.
# shellcheck shell=bash

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck disable=SC2034 # used by the scripts that source this
local_folder=$root/.local
# shellcheck disable=SC2034
cache_folder=${XDG_CACHE_HOME:-$HOME/.cache}/perito
# What cargo builds, and where: benchmarks set PERITO_PROFILE=release.
profile=${PERITO_PROFILE:-dev}
# shellcheck disable=SC2034
programs=${CARGO_TARGET_DIR:-$root/target}/${profile/#dev/debug}

say() { printf '%s\n' "$*" >&2; }

# die WHAT WAY_OUT: says what is missing and what to do, and ends the script.
die() {
    say "error: $1"
    say "  -> $2"
    exit 1
}

# tool NAME VERSION: a program from crates.io in $tools/bin, compiled once for all clones, in a few minutes.
tools=$cache_folder/cargo-tools
tool() {
    grep -qs "^$2\$" "$tools/$1.version" && return
    say "compiling $1 $2 (once, a few minutes)"
    CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --root "$tools" --version "$2" "$1"
    rm -rf "$tools/target"
    echo "$2" >"$tools/$1.version"
}

has() { command -v "$1" >/dev/null 2>&1; }

# The scripts are run as root (in containers) or as a user who may use sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif has sudo; then sudo "$@"; else
        die "not root and no sudo, so this cannot be run: $*" "run it as root yourself, then try again"
    fi
}

# What `stack env` put into this shell names a stack's own servers. Only what the user set names existing ones.
for name in PERITO_{,COORDINATOR_,WORKER_}DATABASE_URL PERITO_AMQP_URL PERITO_S3_ENDPOINT; do
    case " ${PERITO_STACK_URLS:-} " in *" ${!name:-unset} "*) unset "$name" ;; esac
done
unset PERITO_STACK_URLS
