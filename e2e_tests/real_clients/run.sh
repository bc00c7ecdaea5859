#!/usr/bin/env bash
# Talks to the echo server through two WebSocket clients that others wrote, and use: `websockets` for Python and `ws`
# for Node.
#
#     e2e_tests/real_clients/run.sh
#
# Needs Python 3.11 or newer with `venv`, Node and npm. WSLOOP_ECHO_SERVER=path names another server to test. The last
# line is "N passed, M failed", and the exit status 0 only when nothing failed.
set -euo pipefail

deadline=300 # seconds, for one client

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/e2e_tests/real_clients
cd "$root"

main() {
    local server=${WSLOOP_ECHO_SERVER:-}
    quietly install_websockets
    quietly install_ws
    if [[ -z $server ]]; then
        cargo build --release --example echo_server
        server=${CARGO_TARGET_DIR:-target}/release/examples/echo_server
    fi
    play "$here/.venv/bin/python" "$here/python_client.py" "$server"
    play node "$here/node_client.mjs" "$server"
    echo "$passed passed, $failed failed"
    ((passed > 0 && failed == 0))
}

passed=0
failed=0
client=

# Plays one client and adds its last line to the count.
play() {
    local status=0 output line='' last=''
    exec {output}< <(exec timeout --kill-after=10 "$deadline" "$@" </dev/null)
    client=$!
    while IFS= read -r -u "$output" line; do
        echo "$line"
        last=$line
    done
    wait "$client" || status=$?
    clean_up
    if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
    else
        echo "${2##*/} ended with status $status before its last scenario"
        failed=$((failed + 1))
    fi
}

# `timeout` leads a process group, in which a client that did not come to its end has left its server.
clean_up() {
    [[ -z $client ]] || kill -KILL -- "-$client" 2>/dev/null || true
    client=
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Both are quick when everything is there already.
install_websockets() {
    "$here/.venv/bin/python" -c '' 2>/dev/null || python3 -m venv --clear "$here/.venv"
    "$here/.venv/bin/pip" install --disable-pip-version-check -r "$here/requirements.txt"
}

install_ws() {
    npm ci --prefix "$here" --ignore-scripts --no-audit --no-fund
}

# Its output is worth reading only when it fails.
quietly() {
    local log
    log=$("$@" 2>&1) || {
        echo "$* failed:"
        echo "$log"
        exit 1
    } >&2
}

main
