#!/usr/bin/env bash
# `make demo`: the promise, shown on real parts. Signs through a SoftHSM2 token over mutual TLS, is killed
# in the middle, recovers, archives, verifies offline, prints a receipt. Evidence stays in target/demo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source .ci/env
[ -n "${CHANCERY_BIN_DIR:-}" ] || .ci/release
source tests/demo/instance.sh

# Callers at once, and signatures they get before each kill.
callers=8
burst_min=20

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
chancery() { "$bin/chancery" "$@"; }

workers=()
clean_up() {
    local status=$?
    for worker in "${workers[@]}"; do kill "$worker" 2>/dev/null || true; done
    stop || true
    [ "$status" = 0 ] || echo "demo failed; see $root/target/demo" >&2
    exit "$status"
}
trap clean_up EXIT
trap 'echo "failed at line $LINENO: $BASH_COMMAND" >&2' ERR
trap 'exit 130' INT TERM

wipe "$root/target/demo"
mkdir -p "$root/target"

say "1. A throw-away authority, a SoftHSM2 token, an empty ledger"
prepare "$root/target/demo"
work="$home/work"
mkdir -p "$work/burst"
"$bin/chanceryd" check --config "$config" >"$work/check.log" || { cat "$work/check.log"; fail "chanceryd check"; }
start
echo "chanceryd (pid $daemon) serves $url; keys live in the token, callers hold certificates only"
chancery keys list | tee "$work/keys.txt"

say "2. Sign: the signature is on the ledger before we see it"
printf 'Pay the bearer 12.50\n' >"$work/document.txt"
# Every key a caller may sign with: not the ledger's own two, not MAC keys.
mapfile -t kids < <(awk '$3 != "hmac-sha256" && $1 !~ /^ledger/ { print $1 }' "$work/keys.txt")
kid="$(awk '$3 == "ed25519" && $1 != "ledger" { print $1; exit }' "$work/keys.txt")"
[ -n "$kid" ] || fail "the instance has no Ed25519 signing key"
for each in "${kids[@]}"; do
    chancery sign --kid "$each" --file "$work/document.txt" --json >"$work/signed-$each.json"
    signature="$(member signature <"$work/signed-$each.json")"
    chancery verify --kid "$each" --file "$work/document.txt" --signature "$signature"
    if chancery verify --kid "$each" --file "$config" --signature "$signature" >/dev/null; then
        fail "a signature of $each verifies over another document"
    fi
done

say "3. Append events: one chain for each stream, all under one tree"
for total in 12.50 7.00 99.95; do
    chancery event append --type order.paid --stream orders/7 --payload "{\"order\":7,\"total\":\"$total\"}" --json |
        tee -a "$work/events.jsonl" | sed -n 's/.*"seq":\([0-9]*\).*"stream":"\([^"]*\)".*/stream \2, event \1/p'
done
[ "$(wc -l <"$work/events.jsonl")" = 3 ] || fail "three events were appended, $(wc -l <"$work/events.jsonl") were acknowledged"

say "4. kill -9 in the middle of $callers callers signing, then start again"
# Each caller writes its idempotency key down first, then asks, then keeps what was acknowledged.
burst() {
    local caller="$1" count=0 key
    while [ "$count" -lt 5000 ] && [ ! -e "$work/burst/stop" ]; do
        key="burst-$caller-$count"
        echo "$key" >>"$work/burst/$caller.asked"
        chancery sign --kid "$kid" --file "$work/document.txt" --idempotency-key "$key" --json \
            --timeout-ms 1500 >"$work/burst/$caller.reply" 2>/dev/null || return 0
        sed "s/^{/{\"key\":\"$key\",/" "$work/burst/$caller.reply" >>"$work/burst/$caller.acknowledged"
        count=$((count + 1))
    done
}
acknowledged() { { cat "$work"/burst/*.acknowledged 2>/dev/null || true; } | wc -l; }
# What recovery said in the log, summed over all starts.
recovered() { sed -n 's/.*"ledger opened".*"abandoned":\([0-9]*\).*/\1/p' "$home/daemon.log" | awk '{ sum += $1 } END { print sum + 0 }'; }

# A kill meets a key in use only by chance: up to five rounds, until one did.
for round in 1 2 3 4 5; do
    rm -f "$work/burst/stop"
    for number in $(seq "$callers"); do
        burst "$round.$number" &
        workers+=($!)
    done
    wanted=$(($(acknowledged) + burst_min))
    deadline=$((SECONDS + 60))
    until [ "$(acknowledged)" -ge "$wanted" ]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "only $(acknowledged) signatures in 60 s"
        sleep 0.02
    done
    kill -KILL "$daemon"
    wait "$daemon" 2>/dev/null || true
    daemon=
    touch "$work/burst/stop"
    wait "${workers[@]}" || true
    workers=()
    start
    echo "round $round: killed after $(acknowledged) acknowledged signatures; up again, open key uses found: $(recovered)"
    [ "$(recovered)" = 0 ] || break
done

say "5. Nothing acknowledged is lost, nothing unanswered is done twice"
cat "$work"/burst/*.acknowledged >"$work/acknowledged.jsonl"
cat "$work"/burst/*.asked | sort >"$work/asked.txt"
member key <"$work/acknowledged.jsonl" | sort >"$work/acknowledged.txt"
comm -23 "$work/asked.txt" "$work/acknowledged.txt" >"$work/unanswered.txt"
lost=0
while read -r line; do
    index="$(member index <<<"$line")"
    signature="$(member signature <<<"$line")"
    # The receipt is checked here, by the client, against the published registry.
    if ! chancery receipt get "$index" --signers "$home/signers.json" -o "$work/check.json" >/dev/null ||
        ! grep -qF "$signature" "$work/check.json"; then
        echo "lost: $line"
        lost=$((lost + 1))
    fi
done <"$work/acknowledged.jsonl"
[ "$lost" = 0 ] || fail "$lost acknowledged signatures are not on the ledger"
echo "all $(wc -l <"$work/acknowledged.txt") acknowledged signatures are on the ledger, each with a proof"
while read -r key; do
    for attempt in first second; do
        chancery sign --kid "$kid" --file "$work/document.txt" --idempotency-key "$key" --json >"$work/retry-$attempt.json"
    done
    cmp "$work/retry-first.json" "$work/retry-second.json" || fail "two retries of $key differ"
    cat "$work/retry-first.json" >>"$work/retried.jsonl"
done <"$work/unanswered.txt"
echo "$(wc -l <"$work/unanswered.txt") unanswered requests asked again under their keys: the same bytes each time"

say "6. Archive: write-once tiles, bundles and signed checkpoints"
newest="$(cat "$work"/signed-*.json "$work/acknowledged.jsonl" "$work/retried.jsonl" 2>/dev/null | member index | sort -n | tail -1)"
wait_for_archive $((newest + 1))
chancery receipt get "$(member index <"$work/signed-$kid.json")" --signers "$home/signers.json" -o "$home/receipt.json"
chancery receipt get "$(member index <"$work/signed-$kid.json")" --format tlog-proof -o "$home/receipt.tlog-proof" >/dev/null
stop || fail "the daemon did not end well"
# Entries are JSON text: a shell can count them. A tail bundle repeats entries, so by name.
abandoned="$({ grep -rhao '"eventType":"signing.signature.abandoned","hash":"[0-9a-f]*"' "$home/archive/tile/entries" || true; } | sort -u | wc -l)"
[ "$abandoned" = "$(recovered)" ] || fail "the archive holds $abandoned abandoned key uses, recovery found $(recovered)"
echo "$(archived_size) entries archived; key uses open at a kill: $abandoned, each an entry that says so"

say "7. Verify offline: no daemon, no network, only the folder and the registry"
"$bin/chancery-verify" ledger "$home/archive" --signers "$home/signers.json"
"$bin/chancery-verify" receipt "$home/receipt.json" --signers "$home/signers.json"

say "8. And a forgery is found"
wipe "$home/forged"
cp -r "$home/archive" "$home/forged"
chmod -R u+w "$home/forged"
mapfile -t victims < <(grep -rlaF '"total":"12.50"' "$home/forged/tile/entries")
[ "${#victims[@]}" -gt 0 ] || fail "the order is not in the archive"
sed -i 's/"total":"12.50"/"total":"92.50"/' "${victims[@]}"
echo "someone raises an order from 12.50 to 92.50 in a copy of the archive:"
status=0
"$bin/chancery-verify" ledger "$home/forged" --signers "$home/signers.json" || status=$?
[ "$status" = 1 ] || fail "the verifier took a forged ledger (exit $status)"
wipe "$home/forged"

say "The receipt ($home/receipt.json)"
cat "$home/receipt.json"
cat <<END


Everything above is still there. Check it yourself, as an auditor would:
  target/release/chancery-verify ledger target/demo/archive --signers target/demo/signers.json
  target/release/chancery-verify receipt target/demo/receipt.json --signers target/demo/signers.json
END
