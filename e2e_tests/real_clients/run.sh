#!/usr/bin/env bash
# Holds conversations with WebSocket peers that others wrote, and use: `websockets` for Python and `ws` for Node. Their
# clients, and Chromium, talk to our echo server, and our client talks to their servers, directly and through the proxy `pproxy` (HTTP
# CONNECT and SOCKS5, with and without a password). Our client and our server have the same conversation with each other.
#
#     e2e_tests/real_clients/run.sh
#
# Needs Python 3.11 or newer with `venv`, Node and npm, Chromium and its chromedriver. WSLOOP_ECHO_SERVER=path names another server to test. The last
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
        cargo build --release --features deflate --example echo_server
        server=${CARGO_TARGET_DIR:-target}/release/examples/echo_server
    fi
    local mode
    for mode in off shared dedicated; do
        echo "compression: $mode"
        play env WSLOOP_DEFLATE=$mode "$here/.venv/bin/python" "$here/python_client.py" "$server"
        play env WSLOOP_DEFLATE=$mode node "$here/node_client.mjs" "$server"
        play env WSLOOP_DEFLATE=$mode python3 "$here/chromium.py" "$server"
    done
    talk_to_servers "$server"
    echo "$passed passed, $failed failed"
    ((passed > 0 && failed == 0))
}

# Our client, to our own server $1, and to servers and through proxies of others.
talk_to_servers() {
    local server=$1 ours=${WSLOOP_CONVERSATION:-} python=$here/.venv/bin/python mode
    if [[ -z $ours ]]; then
        cargo build --release --features deflate --example conversation
        ours=${CARGO_TARGET_DIR:-target}/release/examples/conversation
    fi
    for mode in off shared dedicated; do
        start wsloop "$server" --listen 127.0.0.1:0 --deflate $mode
        play env WSLOOP_DEFLATE=$mode WSLOOP_SERVER="${servers[-1]}" "$ours" "to ourselves, $mode" "ws://127.0.0.1:$port/"
    done
    start node node "$here/node_server.mjs"
    play "$ours" "to node" "ws://127.0.0.1:$port/"
    start python "$python" "$here/python_server.py"
    play "$ours" "to python" "ws://localhost:$port/"
    local url=ws://localhost:$port/ open locked
    for mode in shared dedicated; do
        start node env WSLOOP_DEFLATE=on node "$here/node_server.mjs"
        play env WSLOOP_DEFLATE=$mode "$ours" "to node, $mode" "ws://127.0.0.1:$port/"
        start python env WSLOOP_DEFLATE=on "$python" "$here/python_server.py"
        play env WSLOOP_DEFLATE=$mode "$ours" "to python, $mode" "ws://127.0.0.1:$port/"
    done
    start_proxy ''
    open=$port
    start_proxy '#user:secret'
    locked=$port
    # First of all: once a client has been let in, this proxy asks its address for no password any more.
    refuse "status 407" "$ours" "wrong password" "$url" http "$locked" user wrong
    refuse "status 407" "$ours" "no password" "$url" http "$locked"
    # With SOCKS it just hangs up; one that is not there would refuse the connection.
    refuse "unexpected end of file" "$ours" "wrong password" "$url" socks5 "$locked" user wrong
    refuse "unexpected end of file" "$ours" "no password" "$url" socks5 "$locked"
    play "$ours" "HTTP proxy" "$url" http "$open"
    play "$ours" "SOCKS5 proxy" "$url" socks5 "$open"
    play "$ours" "HTTP proxy with password" "$url" http "$locked" user secret
    play "$ours" "SOCKS5 proxy with password" "$url" socks5 "$locked" user secret
}

# Starts a server and sets `port` from its first line, "listening on PORT" or "listening on URL".
start() {
    local name=$1 output line=
    shift
    exec {output}< <(exec timeout --kill-after=10 "$deadline" "$@" 2>/dev/null </dev/null)
    servers+=($!)
    if ! IFS= read -r -t 20 -u "$output" line; then
        echo "the server of $name did not say where it listens" >&2
        exit 1
    fi
    port=${line##*[ :]}
}

# Starts a proxy for both protocols, with the credentials $1, and sets `port`.
start_proxy() {
    port=$("$here/.venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    local chosen=$port
    start pproxy "$here/.venv/bin/python" -u -m pproxy -l "http+socks5://127.0.0.1:$chosen$1"
    port=$chosen
}

# Every scenario must fail, and for the reason $1: counts as one.
refuse() {
    local reason=$1 output other
    shift
    output=$(timeout --kill-after=10 "$deadline" "$@" </dev/null) || true
    other=$(grep '^FAILED' <<<"$output" | grep -v -F "$reason") || true
    if [[ ${output##*$'\n'} == "0 passed, "* && -z $other ]]; then
        echo "ok $2 ($4): refused"
        passed=$((passed + 1))
    else
        echo "FAILED $2 ($4): ${other:-${output##*$'\n'}}"
        failed=$((failed + 1))
    fi
}

passed=0
failed=0
client=
servers=()

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
stop_servers() {
    local server
    for server in "${servers[@]}"; do
        kill -KILL -- "-$server" 2>/dev/null || true
    done
}
trap 'clean_up; stop_servers' EXIT
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
