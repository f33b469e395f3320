#!/bin/bash
# Usage: ./setup.sh demo|boards|dev|all
#
# Make .venv with that extra of pyproject.toml, and install the Debian packages that it needs. Does nothing when all of
# that is there. PYTHON=/path/to/python3 chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec 9<setup.sh && flock 9  # `make -j` sets up once

extra=${1:-}
case $extra in  # enough: the extras that hold all that this one does; tests: whether those of cocotb must run
    demo | boards) enough="$extra dev all" tests= ;;
    dev) enough="dev all" tests=yes ;;
    all) enough=all tests=yes ;;
    *) echo "setup: got '$extra', expected demo, boards, dev or all" >&2; exit 2 ;;
esac

step() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

# ---- Python: the first that runs (a pyenv shim may not), is new enough and can make a venv

usable() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1
}

# cocotb puts Python into the simulator, for which it needs Python as a shared library
embeddable() {
    "$1" - >/dev/null 2>&1 <<'PY'
import ctypes, sysconfig
name = sysconfig.get_config_var("INSTSONAME")
try:
    ctypes.CDLL(name)
except OSError:
    ctypes.CDLL(sysconfig.get_config_var("LIBDIR") + "/" + name)
PY
}

debian_python() { [[ $(command -v "$1") =~ ^(/usr)?/bin/ ]]; }

find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3.12 python3.13 python3 /usr/bin/python3}; do
        usable "$name" || continue
        [[ -z $tests ]] || embeddable "$name" || debian_python "$name" || continue
        python=$name
        return
    done
    python=
}

# ---- Debian packages

missing_packages() {
    local missing=()
    if [[ $extra != boards ]]; then                              # its tools are WebAssembly
        command -v g++ >/dev/null || missing+=(g++)              # Verilator's output is C++
        command -v make >/dev/null || missing+=(make)            # and Verilator builds it with make
        perl -MPod::Usage -e 1 2>/dev/null || missing+=(perl)    # `verilator` is a Perl script; perl-base is too small
    fi
    find_python
    [[ -n $python || -n ${PYTHON:-} ]] || missing+=(python3-venv)
    if [[ -n $tests ]]; then
        command -v iverilog >/dev/null || missing+=(iverilog)    # the second simulator of the tests
        if [[ -n $python ]]; then
            embeddable "$python" || missing+=("lib$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')")
        elif [[ -z ${PYTHON:-} ]]; then
            missing+=(libpython3-dev)                            # whatever version python3-venv brings
        fi
    fi
    echo "${missing[@]}"
}

packages=$(missing_packages)
if [[ -n $packages ]]; then
    command -v apt-get >/dev/null ||
        fail "this machine lacks what Debian calls: $packages; there is no apt-get here, install them in your system's way"
    if [[ $(id -u) == 0 ]]; then
        sudo=()
    elif sudo -n true 2>/dev/null; then
        sudo=(sudo -n)
    else
        fail "Debian packages are missing, and installing them takes root; please run: sudo apt-get install $packages"
    fi
    step "installing Debian packages: $packages"
    apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
    "${apt[@]}" update </dev/null | tail -n 1 || step "apt-get update failed; going on with the lists that are there"
    # shellcheck disable=SC2086  # one word a package
    "${apt[@]}" install --no-install-recommends $packages </dev/null | sed -un \
        -e 's/^Fetched/setup:   fetched/p' -e "s/^Setting up \(${packages// /\\|}\)[: ].*/setup:   set up \1/p" ||
        fail "apt-get could not install: $packages"
    packages=$(missing_packages)
    [[ -z $packages ]] || fail "still missing after apt-get: $packages"
fi
find_python
[[ -n $python ]] || fail "${PYTHON:-python3} is no Python >= 3.11 with venv${PYTHON:+ and a shared libpython}"

# ---- .venv, done again when anything that it was made from changes

made_from() { { pwd; cat pyproject.toml setup.sh; echo "${PYTHON:-}"; } | sha256sum; }

stamp=.venv/made-from
now=$(made_from)
if .venv/bin/python -c '' 2>/dev/null; then
    for have in $enough; do
        [[ $(cat "$stamp-$have" 2>/dev/null) != "$now" ]] || exit 0
    done
fi

step "setting up .venv with $python ($("$python" -c 'import platform; print(platform.python_version())'))"
rm -f "$stamp"-*
if [[ -n ${PYTHON:-} ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1 ||
    { [[ -n $tests ]] && ! embeddable .venv/bin/python; }; then
    "$python" -m venv --clear .venv
fi
step "installing dyadprop[$extra] from PyPI (log: .venv/pip.log)"
rm -f .venv/pip.log
.venv/bin/python -m pip install --disable-pip-version-check --no-input --prefer-binary --progress-bar off \
    --log .venv/pip.log --editable ".[$extra]" </dev/null |
    sed -un -e 's/^ *\(Downloading .* MB)\|Using cached .* MB)\|Building .*\)$/setup:   \1/p' \
        -e 's/^ *Installing collected packages.*/setup:   unpacking/p' ||
    fail "pip could not install dyadprop[$extra]; .venv/pip.log has all it said"
echo "$now" >"$stamp-$extra"
step "done in $SECONDS s"
