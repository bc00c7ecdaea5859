#!/usr/bin/env bash
# Runs the Autobahn conformance suite against wsloop. README.md says how, and what the exit codes mean.
set -euo pipefail

version=25.10.1 # of autobahntestsuite
deadline=900    # seconds for one run of the suite; half of the cases need a few minutes
# All cases in two runs of about equal time: the suite has one thread, and its own zlib takes most of it.
halves=(
    '1.* 2.* 3.* 4.* 5.* 6.* 7.* 9.* 10.* 12.1.* 12.2.* 12.4.* 12.5.* 13.1.* 13.2.*'
    '12.3.* 13.3.* 13.4.* 13.5.* 13.6.* 13.7.*'
)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
suite=$root/autobahn/.suite
deflate=${WSLOOP_DEFLATE:-dedicated} # of the echo server
reports=$root/autobahn/reports

main() {
    local role=${1:-}
    shift || true
    if [[ $role != server && $role != client ]]; then
        echo "usage: autobahn/run.sh server|client [case...]" >&2
        exit 2
    fi
    if (($# > 0)); then
        "test_$role" "$@"
    else
        test_all "$role"
    fi
}

# Both halves at the same time, each in a run of this script of its own.
test_all() {
    local role=$1 half status=0 patterns
    install_suite
    "build_$role"
    mkdir -p "$reports"
    for half in 0 1; do
        read -ra patterns <<<"${halves[half]}"
        REPORTS=$reports/$role/$half autobahn/run.sh "$role" "${patterns[@]}" >"$reports/$role.$half.log" 2>&1 &
        running+=($!)
    done
    for half in 0 1; do
        wait "${running[half]}" || status=$?
        cat "$reports/$role.$half.log"
    done
    running=()
    sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$reports/$role".[01].log |
        awk '{passed += $1; failed += $2} END {print passed + 0 " passed, " failed + 0 " failed in both halves together"}'
    exit "$status"
}

test_server() {
    local out=${REPORTS:-$reports/server} url
    # Before anything is built: a case that does not exist ends the run here.
    python3 autobahn/suite.py spec-server ws:// "$out" "$@" >/dev/null || exit 2
    install_suite
    rm -rf "$out" && mkdir -p "$out"
    start_server "$out/echo_server.log"
    python3 autobahn/suite.py spec-server "$url" "$out" "$@" >"$out/spec.json"
    run_wstest "$out" -m fuzzingclient -s "$out/spec.json"
    kill -0 "$server" 2>/dev/null || {
        echo "the echo server did not live to the end; its last lines:"
        tail -n 5 "$out/echo_server.log"
    }
    python3 autobahn/suite.py compare "$out/index.json" "$@"
}

build_server() {
    [[ -n ${WSLOOP_ECHO_SERVER:-} ]] || cargo build --release --features deflate --example echo_server
}

build_client() {
    [[ -n ${WSLOOP_AUTOBAHN_CLIENT:-} ]] || cargo build --release --features deflate --example autobahn_client
}

test_client() {
    local out=${REPORTS:-$reports/client} port status=0
    python3 autobahn/suite.py spec-client ws:// "$out" "$@" >/dev/null || exit 2
    install_suite
    rm -rf "$out" && mkdir -p "$out"
    build_client
    local binary=${WSLOOP_AUTOBAHN_CLIENT:-${CARGO_TARGET_DIR:-target}/release/examples/autobahn_client}
    # The url's port is the one to listen on; the client's Host has to carry the same.
    port=$(free_port)
    python3 autobahn/suite.py spec-client "ws://127.0.0.1:$port" "$out" "$@" >"$out/spec.json"
    start_fuzzing_server "$out"
    timeout --kill-after=10 "$deadline" "$binary" "ws://127.0.0.1:$port" >"$out/client.log" 2>&1 </dev/null || status=$?
    if ((status != 0)); then
        echo "the client ended with status $status; its last lines:"
        tail -n 5 "$out/client.log"
    fi
    python3 autobahn/suite.py compare "$out/index.json" "$@"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Sets `wstest`, and waits until it listens.
start_fuzzing_server() {
    local out=$1 line output
    suite_environment
    exec {output}< <(exec "${in_suite[@]}" timeout --kill-after=10 "$deadline" \
        "$suite/python2.7/bin/python" -u autobahn/loopback_wstest.py \
        -m fuzzingserver --webport 0 -s "$out/spec.json" 2>"$out/wstest.log" )
    wstest=$!
    while IFS= read -r -t 30 -u "$output" line; do
        [[ $line == "listening on "* ]] && return
    done
    echo "the suite's server does not listen; its last lines:"
    tail -n 5 "$out/wstest.log"
    exit 1
}

# In the background, so that a signal to this script is served at once.
run_wstest() {
    local out=$1 status=0
    shift
    suite_environment
    "${in_suite[@]}" timeout --kill-after=10 "$deadline" "$suite/python2.7/bin/wstest" "$@" \
        >"$out/wstest.log" 2>&1 </dev/null &
    wstest=$!
    wait "$wstest" || status=$?
    wstest=
    # A status of 0 means nothing, any other does; the report decides in both cases.
    if ((status != 0)); then
        echo "wstest ended with status $status (124: not done after $deadline s); its last lines:"
        tail -n 5 "$out/wstest.log"
    fi
}

# Sets `url` and `server`. The pipe stays open: the server may go on writing.
start_server() {
    local log=$1 line
    build_server
    local binary=${WSLOOP_ECHO_SERVER:-${CARGO_TARGET_DIR:-target}/release/examples/echo_server}
    exec {server_output}< <(exec "$binary" --listen 127.0.0.1:0 --deflate "$deflate" 2>"$log")
    server=$!
    if ! IFS= read -r -t 10 -u "$server_output" line || [[ $line != "listening on ws://"* ]]; then
        echo "the echo server did not say where it listens: ${line:-nothing}" >&2
        cat "$log" >&2
        exit 1
    fi
    url=${line#listening on }
}

server=
wstest=
running=()
clean_up() {
    local pid
    for pid in $wstest $server "${running[@]}"; do
        kill -TERM "$pid" 2>/dev/null || continue
        timeout 10 tail --pid="$pid" -s 0.1 -f /dev/null || kill -KILL "$pid" || true
    done
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- Installing the suite -------------------------------------------------------------------------------------------

# An installation without its stamp, of another version or in a folder that has moved is thrown away and made anew.
# The lock is this file, so that two runs do not install at the same time.
install_suite() {
    local status=0
    (
        flock 9
        suite_environment
        if [[ $(cat "$suite/complete" 2>/dev/null) == "$version" ]] &&
            "${in_suite[@]}" "$suite/python2.7/bin/wstest" -a >/dev/null 2>&1; then
            exit 0
        fi
        rm -rf "$suite" && mkdir -p "$suite"
        python=$(find_python) || {
            echo "no Python 2.7 with headers to be had (pyenv 2.7.18, python2.7, Debian packages): the suite did not run"
            exit 3
        }
        echo "installing autobahntestsuite $version for $("$python" --version 2>&1)"
        suite_environment
        if ! build_environment "$python" >"$suite/install.log" 2>&1; then
            echo "the suite could not be installed:"
            tail -n 20 "$suite/install.log"
            exit 1
        fi
        echo "$version" >"$suite/complete"
    ) 9<"$root/autobahn/run.sh" || status=$?
    ((status == 0)) || exit "$status"
}

# virtualenv 20.21 is the last that makes environments of 2.7; it runs on Python 3 itself.
build_environment() {
    python3 -m venv "$suite/virtualenv" &&
        "$suite/virtualenv/bin/pip" install virtualenv==20.21.1 &&
        "$suite/virtualenv/bin/virtualenv" -p "$1" "$suite/python2.7" &&
        "${in_suite[@]}" "$suite/python2.7/bin/pip" install "autobahntestsuite==$version" &&
        "${in_suite[@]}" "$suite/python2.7/bin/wstest" -a
}

find_python() {
    try_python "$(pyenv prefix 2.7.18 2>/dev/null)/bin/python2.7" ||
        try_python python2.7 ||
        { unpack_debian_python >"$suite/debian.log" 2>&1 && try_python "$suite/debian/usr/bin/python2.7"; }
}

# Prints the interpreter's path when it is whole: parts of the suite are compiled.
try_python() {
    suite_environment
    "${in_suite[@]}" "$1" -c '
import os, ssl, sys, sysconfig
assert os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h"))
print(sys.executable)' 2>/dev/null
}

# Debian had Python 2.7 until bullseye. Its packages are fetched from this machine's own mirror, through a private apt
# configuration, and unpacked into a folder: nothing is installed.
unpack_debian_python() {
    local apt=$suite/apt mirror
    # shellcheck disable=SC2016 # the dollar sign is apt's
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    [[ -n $mirror ]] || return 1
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/debs"
    echo "deb $mirror bullseye main" >"$apt/sources.list"
    cat >"$apt/apt.conf" <<END
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt";
APT::Sandbox::User "$(id -un)";
END
    (
        export APT_CONFIG=$apt/apt.conf
        cd "$apt/debs" && timeout 120 apt-get update && timeout 120 apt-get download \
            python2.7 python2.7-minimal python2.7-dev libssl1.1 libffi7 \
            libpython2.7 libpython2.7-minimal libpython2.7-stdlib libpython2.7-dev
    ) || return 1
    local package
    for package in "$apt"/debs/*.deb; do
        dpkg-deb -x "$package" "$suite/debian" || return 1
    done
    rm -rf "$apt"
}

# Sets `in_suite`, the prefix of commands that run the suite's Python: Debian's, unpacked, has to be told where its
# libraries and headers are.
suite_environment() {
    local libraries=("$suite"/debian/usr/lib/*-linux-gnu*)
    in_suite=(env)
    if [[ -d ${libraries[0]} ]]; then
        in_suite+=("LD_LIBRARY_PATH=${libraries[0]}" "CPATH=$suite/debian/usr/include")
    fi
}

main "$@"
