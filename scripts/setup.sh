# shellcheck shell=bash
# Sourced by run.sh and test.sh: `set_up [EXTRAS]` installs optsweep on first use and puts its Python first in PATH.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
root=$(pwd -P)
env=${VIRTUAL_ENV:-${CONDA_PREFIX:-$root/.venv}}
unfinished=$env/optsweep.unfinished # there from the making of .venv until its first installation is complete
log=$env/optsweep.log

say() { printf 'optsweep: %s\n' "$*" >&2; }
die() { say "$@"; exit 2; }

# Usage: set_up "" or set_up "[test]"
set_up() {
    if ! is_set_up "$1"; then
        say "setting up ${env#"$root/"} (first use, or pyproject.toml has changed; PyTorch is large)"
        exec 9<"$root"
        flock 9 2>/dev/null || true # one at a time, where there is flock
        is_set_up "$1" || install "$1"
        exec 9<&-
    fi
    export PATH="$env/bin:$PATH"
}

# A stamp in the environment tells what it was installed from, so that no Python has to start to find out.
is_set_up() { [[ -x $env/bin/python && -f $env/optsweep$1.stamp && $(<"$env/optsweep$1.stamp") == "$(fingerprint)" ]]; }
fingerprint() { echo "$(cksum <pyproject.toml) $root $(readlink -f "$env/bin/python")"; }

install() {
    rm -f "$env"/optsweep*.stamp
    if [[ $env != "$root/.venv" ]]; then
        is_supported "$env/bin/python" || die "the active environment $env has no Python 3.10 to 3.14: deactivate it"
        find_pip || die "the active environment $env has no pip: deactivate it, or run python -m ensurepip"
    elif [[ -e $unfinished ]] || ! is_supported "$env/bin/python" || ! find_pip; then
        make_venv
    fi
    if ! "${pip[@]}" install --editable ".$1" 2>"$log" | show_progress; then
        tail -n 15 "$log" >&2
        die "the installation failed; pip's messages are in $log"
    fi
    rm -f "$unfinished"
    fingerprint | tee "$env/optsweep.stamp" >"$env/optsweep$1.stamp"
    [[ $1 != "[dev]" ]] || fingerprint >"$env/optsweep[test].stamp" # which it includes
}

make_venv() {
    local python command problem="needs Python 3.10 to 3.14, and finds none"
    for python in python3 python3.{14,13,12,11,10}; do
        rm -rf "$env" # before the look for a Python: a broken .venv may be active
        is_supported "$python" || continue
        mkdir "$env"
        touch "$unfinished"
        command=("$python" -m venv "$env")
        # Debian without python3-venv lacks ensurepip, but may have a pip that can serve another environment.
        "$python" -c 'from ensurepip import version' 2>/dev/null || command+=(--without-pip)
        "${command[@]}" && find_pip && return
        problem="cannot make .venv with pip in it: on Debian and Ubuntu, apt-get install python3-venv"
    done
    die "$problem"
}

is_supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' 2>/dev/null; }

# Leaves in `pip` the environment's own or, through --python (pip 22.3), one from outside.
find_pip() {
    local python
    pip=("$env/bin/python" -m pip)
    "${pip[@]}" --version >/dev/null 2>&1 && return
    for python in python3 python3.{14,13,12,11,10} /usr/bin/python3; do
        pip=("$python" -m pip --python "$env/bin/python")
        "${pip[@]}" --version >/dev/null 2>&1 && return
    done
    return 1
}

# On a terminal pip's lines overwrite one another; elsewhere they are not shown.
show_progress() {
    local line
    while IFS= read -r line; do
        [[ ! -t 2 ]] || printf '\r\033[K%.76s' "$line" >&2
    done
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
}
