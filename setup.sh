#!/bin/sh
# Installs the project into .venv and runs a command in it. POSIX sh; needs Python 3.11 or newer with venv.
#
#   ./setup.sh                     install only
#   ./setup.sh demo [ARG...]       install, then run `peer demo`
#   ./setup.sh test [ARG...]       install with all test tools, then run pytest
#   ./setup.sh coverage [ARG...]   the same, with branch coverage of peer/ and server/
#   ./setup.sh tools               install with all test tools
#
# As root, or with a sudo that needs no password, it installs system packages with apt-get. Otherwise it prints the
# command that installs the missing ones. With CI=true a missing test tool is an error. A second run changes nothing
# and takes a second.
set -eu
cd "$(dirname "$0")"

# Libraries that the opencv-python wheel and its Qt plugin need (`ldd`) but do not contain; libgl1 depends on X11.
WINDOW_LIBRARIES="libgl1 libglib2.0-0 libice6 libsm6"
# Programs that the tests use: browsers; a display; audio without a sound card; a TURN server; FFmpeg as RTSP server and
# client; Redis for a cluster; Node.js for the page's modules (playwright's own needs libatomic1) and for other WebRTC
# stacks; Go for pion and for the old server; reverse proxies; systemd to verify the units.
TEST_PACKAGES="chromium firefox-esr libatomic1 xvfb xdotool iproute2 pulseaudio pulseaudio-utils libasound2-plugins libasound2-data
    coturn ffmpeg redis-server nodejs npm golang-go golang-github-gorilla-websocket-dev golang-github-pion-webrtc.v3-dev
    nginx-light caddy systemd"

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$*"; exit 1; }

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

# Whether the program of package $1 is installed from elsewhere. Debian's package could then conflict: NodeSource's nodejs
# contains npm.
installed_otherwise() {
    case $1 in
        firefox-esr) command -v firefox ;;
        nodejs) command -v node ;;
        npm) command -v npm ;;
        golang-go) command -v go ;;
        *) false ;;
    esac >/dev/null 2>&1
}

# Prints the packages among "$@" that are not installed. In newer releases libglib2.0-0 is named libglib2.0-0t64.
missing() {
    for package in "$@"; do
        installed "$package" || installed "${package}t64" || installed_otherwise "$package" || printf '%s ' "$package"
    done
}

# Runs "$@" and appends its output to the file $log; meanwhile prints only the lines that contain "$1".
logged() {
    shown=$1
    shift
    { "$@" 2>&1 && echo "exit code 0" || echo "exit code $?"; } | while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        case $line in *"$shown"*) printf '%s\n' "$line" >&2 ;; esac
    done
    [ "$(tail -n 1 "$log")" = "exit code 0" ]
}

# Error messages of pip and apt-get for an unreachable server.
NETWORK_ERRORS="Temporary failure (in name resolution|resolving)|Name or service not known|Could not resolve host\
|No address associated with hostname|Network is unreachable|No route to host|Connection refused|[Cc]onnection timed out\
|Connect timeout|Read timed out|Tunnel connection failed|Cannot connect to proxy|certificate verify failed"

network_error() { grep -oE "$NETWORK_ERRORS" "$log" | head -n 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Installs the missing Debian packages among "$@". Fails if one cannot be installed.
provide() {
    command -v dpkg-query >/dev/null 2>&1 || { say "this system has no dpkg; please install the equivalents of: $*"; return 1; }
    wanted=$(missing "$@")
    [ -n "$wanted" ] || return 0
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        say "missing; please run: sudo apt-get install ${wanted% }"
        return 1
    fi
    say "installing ${wanted% } (a minute or more)"
    log=$(mktemp)
    apt_get update || true  # the present package lists may suffice
    start_nothing
    # shellcheck disable=SC2086  # a list of packages
    if ! apt_get install -y --no-install-recommends $wanted && [ -z "$(network_error)" ]; then
        for package in $wanted; do  # a package that this release lacks must not prevent the others
            apt_get install -y --no-install-recommends "$package" || true
        done
    fi
    as_before
    wanted=$(missing "$@")
    if [ -n "$wanted" ]; then
        why=$(network_error)
        if [ -n "$why" ]; then
            say "cannot reach the Debian mirror ($why); not installed: ${wanted% }"
        else
            grep '^E: ' "$log" | tail -n 5 >&2
            say "could not be installed: ${wanted% }"
        fi
    fi
    rm -f "$log"
    [ -z "$wanted" ]
}

# Debian starts the servers that it installs, such as nginx on port 80; the tests start their own. policy-rc.d(8)
# prevents that. An existing policy is left alone.
POLICY=/usr/sbin/policy-rc.d
start_nothing() {
    [ ! -e "$POLICY" ] || return 0
    trap as_before EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\n# %s/setup.sh, while it installs\nexit 101\n' "$PWD" | as_root tee "$POLICY" >/dev/null
    as_root chmod +x "$POLICY"
}
as_before() {
    trap - EXIT INT TERM
    ! grep -qsF "# $PWD/setup.sh, while it installs" "$POLICY" || as_root rm -f "$POLICY"
}

apt_get() {
    logged "Setting up " as_root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@"
}

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for python in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if command -v "$python" >/dev/null 2>&1 && usable "$python"; then
            command -v "$python"
            return 0
        fi
    done
    return 1
}

# In Debian and Ubuntu, pip for venv is in a package of its own.
make_venv() {
    python=$(find_python) || {
        provide python3 python3-venv || die "Python 3.11 or newer is needed"
        python=$(find_python) || die "Python 3.11 or newer is needed; this system's is $(python3 --version 2>&1)"
    }
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        provide "python$version-venv" || exit 1
    fi
    say "making .venv with $("$python" --version 2>&1)"
    "$python" -m venv --clear .venv
}

# Whether .venv/bin/python and its pip run.
venv_runs() { [ -x .venv/bin/python ] && usable .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }

# Whether the project installed in .venv is the one in this folder. A .venv holds absolute paths: after the folder was
# moved or copied, they still lead to the old one.
venv_is_ours() {
    .venv/bin/python -I - <<'END'
import importlib.util, os, sys
found = importlib.util.find_spec("peer")
path = found and found.origin and os.path.dirname(found.origin)
sys.exit(not (path and os.path.isdir(path) and os.path.samefile(path, "peer")))
END
}

# Installs the project into .venv, with the extra "$1" ("" or "test"); skipped while pyproject.toml stays as it was.
install() {
    stamp=".venv/.installed${1:+-$1}"
    now=$(cksum <pyproject.toml)
    if [ -e .venv/.installed ] && usable .venv/bin/python; then
        if ! venv_is_ours; then
            say "this folder, or its .venv, was moved or copied"
            make_venv
        elif [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then
            return 0
        fi
    fi
    venv_runs || make_venv
    say "installing into .venv (a minute or more the first time)"
    log=$(mktemp)
    if ! logged "Downloading " .venv/bin/python -m pip --disable-pip-version-check \
        install --progress-bar off -e ".${1:+[$1]}"; then
        why=$(network_error)
        index=$(.venv/bin/python -m pip config get global.index-url 2>/dev/null) || index=https://pypi.org/simple
        [ -n "$why" ] || tail -n 20 "$log" >&2
        rm -f "$log"
        [ -z "$why" ] || die "cannot reach ${PIP_INDEX_URL:-$index} ($why); Python packages are downloaded from there"
        die "pip could not install the project, see above"
    fi
    rm -f "$log"
    printf '%s\n' "$now" >"$stamp"
    [ -z "$1" ] || printf '%s\n' "$now" >.venv/.installed
}

# pytest's arguments for all tests: more processes than cores, because most tests wait; whole files, because tests of a
# file share servers; in the order of tests/conftest.py.
parallel() {
    cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
    echo "-n $((cores < 3 ? cores + 1 : 4)) --dist loadfile --no-loadscope-reorder"
}

what=${1:-}
[ $# = 0 ] || shift
case $what in
    "")
        install ""
        say "done; try: .venv/bin/peer demo"
        ;;
    demo)
        install ""
        if [ -n "${DISPLAY:-}" ]; then
            # shellcheck disable=SC2086
            provide $WINDOW_LIBRARIES || say "the demo runs without windows"
        fi
        exec .venv/bin/peer demo "$@"
        ;;
    test | tools)
        # shellcheck disable=SC2086
        provide $WINDOW_LIBRARIES $TEST_PACKAGES || [ "${CI:-}" != true ] || die "CI needs every tool"
        install test
        [ "$what" != tools ] || exit 0
        # The whole suite runs in parallel; named tests run as the arguments say.
        # shellcheck disable=SC2046
        [ $# != 0 ] || set -- $(parallel)
        exec .venv/bin/python -m pytest "$@"
        ;;
    coverage)
        # shellcheck disable=SC2086
        provide $WINDOW_LIBRARIES $TEST_PACKAGES || say "tests that need the missing packages are skipped"
        install test
        rm -rf .cache/coverage
        mkdir -p .cache/coverage
        # shellcheck disable=SC2046
        [ $# != 0 ] || set -- $(parallel)
        failed=0
        .venv/bin/python -m coverage run -m pytest "$@" || failed=1
        .venv/bin/python -m coverage combine -q
        .venv/bin/python -m coverage report
        .venv/bin/python -m coverage json -q -o .cache/coverage/report.json
        .venv/bin/python -m tests.pure_coverage .cache/coverage/report.json || failed=1
        exit "$failed"
        ;;
    -h | --help | help)
        sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
        ;;
    *)
        die "unknown command \"$what\"; try demo, test, coverage or tools"
        ;;
esac
