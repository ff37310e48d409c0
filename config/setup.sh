#!/usr/bin/env bash
# Set up .venv: `setup.sh run` for RosFit and its servers, `setup.sh test` for the tests as well.
# Debian 12 and 13, Ubuntu 22.04 and 24.04; as root or not. Quick when nothing has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:-run}
venv=.venv
python=

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    printf 'setup: failed: %s\n' "$*" >&2
    exit 1
}

# Run a step that talks much; show what it said only if it fails.
quietly() {
    local what=$1 log
    shift
    say "$what"
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        fail "$what. The reason is above; mend it and run this again."
    fi
    rm -f "$log"
}

# Print what runs a command as root, or return 1 if nothing does without asking for a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        echo env
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        echo sudo
    else
        return 1
    fi
}

apt_install() {
    local root
    root=$(as_root) || return 1
    command -v apt-get >/dev/null || return 1
    $root apt-get update -q || true
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

need_python() {
    python=$(find_python) && return
    say "Python 3.11 or newer is missing (python3 is $(python3 --version 2>&1 || echo absent))"
    as_root >/dev/null || fail "install it (for example: apt-get install python3.11 python3.11-venv), or set PYTHON"
    quietly "installing Python 3.11" apt_install python3.11 python3.11-venv
    python=$(find_python) || fail "Python 3.11 was installed but is not found; set PYTHON to its path"
}

# Debian keeps pip's wheel in a package of its own, which can be unpacked without root.
pip_from_package() {
    local wheels=$PWD/$venv/wheels
    rm -rf "$wheels" && mkdir -p "$wheels/lists/partial" "$wheels/cache/archives/partial"
    (
        cd "$wheels"
        apt-get -q -o Debug::NoLocking=1 download python3-pip-whl ||
            {
                private=(-o Debug::NoLocking=1 -o Dir::State::Lists="$wheels/lists" -o Dir::Cache="$wheels/cache"
                    -o APT::Sandbox::User=root)
                apt-get -q "${private[@]}" update || true
                apt-get -q "${private[@]}" download python3-pip-whl
            }
        dpkg-deb -x python3-pip-whl_*.deb .
    )
    "$python" -m venv --without-pip "$venv"
    local wheel
    wheel=$(ls "$wheels"/usr/share/python-wheels/pip-*.whl)
    "$venv/bin/python" "$wheel/pip" install -q --no-index --find-links "$(dirname "$wheel")" pip
    rm -rf "$wheels"
}

make_venv() {
    if [ -x $venv/bin/python ] && $venv/bin/python -m pip --version >/dev/null 2>&1; then
        return
    fi
    need_python
    say "making $venv with $("$python" --version) ($python)"
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        quietly "making the virtual environment" "$python" -m venv --clear $venv
        return
    fi
    local version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if as_root >/dev/null && apt_install "python$version-venv" >/dev/null 2>&1; then
        quietly "making the virtual environment" "$python" -m venv --clear $venv
    else
        quietly "making the virtual environment, with pip from its Debian package" pip_from_package
    fi
}

install_packages() {
    local constraints=()
    [ -f config/constraints.txt ] && constraints=(-c config/constraints.txt)
    local wanted=(-e .)
    if [ "$purpose" = test ]; then
        wanted=(-e ".[dev,ros]")
        [ -f rosfit_bridge/setup.py ] && wanted+=(-e ./rosfit_bridge)
    fi
    quietly "installing Python packages (a minute or two the first time)" \
        $venv/bin/python -m pip install --disable-pip-version-check "${constraints[@]}" "${wanted[@]}"
}

setup_broker() {
    quietly "looking for the MQTT broker" $venv/bin/python -m rosfit.infra.embedded.mosquitto_package
}

setup_browser() {
    local browser
    for browser in chromium google-chrome; do
        command -v $browser >/dev/null && return
    done
    [ -x $venv/bin/chromium ] && return
    # Ubuntu's package is only a pointer to a snap, so it is of no use here.
    if ! grep -qi ubuntu /etc/os-release && as_root >/dev/null; then
        quietly "installing Chromium for the browser tests" apt_install chromium
    else
        quietly "fetching Chromium for the browser tests" $venv/bin/python config/fetch_browser.py $venv
    fi
}

fingerprint() {
    { cat pyproject.toml config/setup.sh config/constraints.txt rosfit_bridge/setup.py 2>/dev/null || true; } | sha256sum
}

case $purpose in run | test) ;; *) fail "use: config/setup.sh run|test" ;; esac
stamp=$venv/.setup-$purpose
if [ -x $venv/bin/rosfit ] && [ "$(cat $stamp 2>/dev/null)" = "$(fingerprint)" ]; then
    exit 0
fi
make_venv
install_packages
setup_broker
if [ "$purpose" = test ]; then setup_browser; fi
fingerprint >$stamp
say "done"
