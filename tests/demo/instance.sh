# shellcheck shell=bash
# One development instance below target/, shared by `make demo` and `make run`.
#
# Promises: every wait is bounded; only processes started here are stopped, by their pid; nothing listens
# but on 127.0.0.1, on ports that were free.
# Sets: home, config, url, ops and, while the daemon runs, daemon (its pid).

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# Binaries built elsewhere can be shown too: CHANCERY_BIN_DIR names their folder, and nothing is built.
bin="${CHANCERY_BIN_DIR:-$root/target/release}"
daemon=

# What a developer's shell may carry and an instance of ours must not hear.
unset CHANCERY_ENV NODE_ENV CHANCERY_ENABLE CHANCERY_OPS REQUIRE_MTLS DEV_SKIP_MTLS REQUIRE_KMS \
    DEV_ALLOW_EPHEMERAL SOFTHSM2_CONF SOFTHSM2_MODULE AUDIT_SIGNING_KMS_KEY_ID MANIFEST_SIGNING_KMS_KEY_ID AUDIT_SIGNER_KID

fail() {
    echo "failed: $*" >&2
    exit 1
}

# A port nobody listens on, below the range the system hands out by itself.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    fail "no free port found"
}

# Removes an earlier instance; its archive is read-only on purpose.
wipe() {
    [ -e "$1" ] || return 0
    chmod -R u+w "$1"
    rm -rf "$1"
}

# Makes an instance in the folder $1, or takes the one that is there and gives it ports that are free now.
prepare() {
    home="$1"
    config="$home/chancery.toml"
    local service ops_address
    service="127.0.0.1:$(free_port)"
    until ops_address="127.0.0.1:$(free_port)" && [ "$ops_address" != "$service" ]; do :; done
    if [ -e "$config" ]; then
        sed -i -e '/^\[listeners\.service\]/,/^\[/ s|^address = .*|address = "'"$service"'"|' \
            -e '/^\[listeners\.ops\]/,/^\[/ s|^address = .*|address = "'"$ops_address"'"|' "$config"
    else
        "$bin/chanceryd" init --dev "$home" --address "$service" --ops-address "$ops_address"
    fi
    url="https://$service"
    ops="http://$ops_address"
    export CHANCERY_URL="$url" CHANCERY_CA="$home/ca.crt" CHANCERY_CERT="$home/client.crt" CHANCERY_KEY="$home/client.key"
}

start() {
    "$bin/chanceryd" run --config "$config" >>"$home/daemon.log" 2>&1 </dev/null &
    daemon=$!
    local deadline=$((SECONDS + 60))
    until "$bin/chancery" status --ops "$ops" --timeout-ms 2000 >"$home/status.log" 2>&1; do
        if ! kill -0 "$daemon" 2>/dev/null; then
            daemon=
            tail -20 "$home/daemon.log" >&2
            fail "the daemon ended; its log is $home/daemon.log"
        fi
        if [ "$SECONDS" -ge "$deadline" ]; then
            cat "$home/status.log" >&2
            tail -20 "$home/daemon.log" >&2
            fail "the daemon is not ready after 60 s"
        fi
        sleep 0.1
    done
}

# Ends the daemon as an operator does: it finishes what it accepted.
stop() {
    [ -n "$daemon" ] || return 0
    local pid="$daemon" status=0
    daemon=
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 300); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || status=$?
    return "$status"
}

# Size of the tree under the newest archived checkpoint; 0 while there is none.
archived_size() {
    local newest
    newest="$(find "$home/archive/checkpoint" -type f 2>/dev/null | sort | tail -1)"
    if [ -n "$newest" ]; then sed -n 2p "$newest"; else echo 0; fi
}

# Waits until the archive holds at least $1 entries.
wait_for_archive() {
    local deadline=$((SECONDS + 120))
    until [ "$(archived_size)" -ge "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "the archive holds $(archived_size) entries after 120 s, not $1"
        sleep 0.2
    done
}

# The value of a number or a text in one line of JSON: `member index <<<'{"index":7}'`.
member() {
    sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p'
}
