#!/usr/bin/env bash
# `make demo`: the promise, shown on real parts. Signs through a SoftHSM2 token over mutual TLS, is killed
# in the middle, recovers, archives, verifies offline, prints a receipt. Evidence stays in target/demo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source .ci/env
[ -n "${CHANCERY_BIN_DIR:-}" ] || .ci/release
source tests/demo/instance.sh

callers=8
burst_min=40

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
trap 'exit 130' INT TERM

wipe "$root/target/demo"
mkdir -p "$root/target"

say "1. A throw-away authority, a SoftHSM2 token, an empty ledger"
prepare "$root/target/demo"
"$bin/chanceryd" check --config "$config" >"$home/check.log" || { cat "$home/check.log"; fail "chanceryd check"; }
start
echo "chanceryd (pid $daemon) serves $url; keys live in the token, callers hold certificates only"
chancery keys list | tee "$home/keys.txt"

say "2. Sign: the signature is on the ledger before we see it"
printf 'Pay the bearer 12.50\n' >"$home/document.txt"
mkdir -p "$home/burst"
# Every key a caller may sign with: not the ledger's own, not MAC keys.
mapfile -t kids < <(awk '$3 != "hmac-sha256" && $1 != "ledger" { print $1 }' "$home/keys.txt")
[ "${#kids[@]}" -gt 0 ] || fail "the instance has no signing key"
for kid in "${kids[@]}"; do
    chancery sign --kid "$kid" --file "$home/document.txt" --json >"$home/signed-$kid.json"
    signature="$(member signature <"$home/signed-$kid.json")"
    chancery verify --kid "$kid" --file "$home/document.txt" --signature "$signature" | sed "s/^/$kid: /"
    if chancery verify --kid "$kid" --file "$config" --signature "$signature" >/dev/null; then
        fail "a signature of $kid verifies over another document"
    fi
done

say "3. Append events: one chain for each stream, all under one tree"
for total in 12.50 7.00 99.95; do
    chancery event append --type order.paid --stream orders/7 --payload "{\"order\":7,\"total\":\"$total\"}" --json |
        tee -a "$home/events.jsonl" | sed -n 's/.*"seq":\([0-9]*\).*"stream":"\([^"]*\)".*/stream \2, event \1/p'
done
[ "$(wc -l <"$home/events.jsonl")" = 3 ] || fail "three events were appended, $(wc -l <"$home/events.jsonl") were acknowledged"

say "4. kill -9 in the middle of $callers callers signing"
# Each caller writes its idempotency key down first, then asks, then keeps what was acknowledged.
burst() {
    local number="$1" count=0 key
    while [ "$count" -lt 5000 ] && [ ! -e "$home/burst/stop" ]; do
        key="burst-$number-$count"
        echo "$key" >>"$home/burst/$number.asked"
        chancery sign --kid "${kids[0]}" --file "$home/document.txt" --idempotency-key "$key" --json \
            --timeout-ms 1500 >"$home/burst/$number.reply" 2>/dev/null || return 0
        sed "s/^{/{\"key\":\"$key\",/" "$home/burst/$number.reply" >>"$home/burst/$number.acknowledged"
        count=$((count + 1))
    done
}
for number in $(seq "$callers"); do
    burst "$number" &
    workers+=($!)
done
acknowledged() { cat "$home"/burst/*.acknowledged 2>/dev/null | wc -l; }
deadline=$((SECONDS + 60))
until [ "$(acknowledged)" -ge "$burst_min" ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "only $(acknowledged) signatures in 60 s"
    sleep 0.05
done
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null || true
daemon=
touch "$home/burst/stop"
wait "${workers[@]}" || true
workers=()
cat "$home"/burst/*.acknowledged >"$home/acknowledged.jsonl"
cat "$home"/burst/*.asked | sort >"$home/asked.txt"
member key <"$home/acknowledged.jsonl" | sort >"$home/acknowledged.txt"
comm -23 "$home/asked.txt" "$home/acknowledged.txt" >"$home/unanswered.txt"
echo "killed: $(wc -l <"$home/acknowledged.txt") signatures acknowledged, $(wc -l <"$home/unanswered.txt") callers left without an answer"

say "5. Start again: recovery goes through the same code as every commit"
start
echo "ready again as pid $daemon"
lost=0
while read -r line; do
    index="$(member index <<<"$line")"
    signature="$(member signature <<<"$line")"
    # The receipt is checked here, by the client, against the published registry.
    if ! chancery receipt get "$index" --signers "$home/signers.json" -o "$home/check.json" >/dev/null ||
        ! grep -qF "$signature" "$home/check.json"; then
        echo "lost: $line"
        lost=$((lost + 1))
    fi
done <"$home/acknowledged.jsonl"
[ "$lost" = 0 ] || fail "$lost acknowledged signatures are not on the ledger"
echo "all $(wc -l <"$home/acknowledged.txt") acknowledged signatures are on the ledger, each with a proof"
while read -r key; do
    for attempt in first second; do
        chancery sign --kid "${kids[0]}" --file "$home/document.txt" --idempotency-key "$key" --json >"$home/retry-$attempt.json"
    done
    cmp "$home/retry-first.json" "$home/retry-second.json" || fail "two retries of $key differ"
    cat "$home/retry-first.json" >>"$home/retried.jsonl"
done <"$home/unanswered.txt"
echo "$(wc -l <"$home/unanswered.txt") unanswered requests asked again under their keys: the same bytes each time"

say "6. Archive: write-once tiles, bundles and signed checkpoints"
newest="$(cat "$home"/signed-*.json "$home/acknowledged.jsonl" "$home/retried.jsonl" 2>/dev/null | member index | sort -n | tail -1)"
wait_for_archive $((newest + 1))
chancery receipt get "$(member index <"$home/signed-${kids[0]}.json")" --signers "$home/signers.json" -o "$home/receipt.json"
chancery receipt get "$(member index <"$home/signed-${kids[0]}.json")" --format tlog-proof -o "$home/receipt.tlog-proof" >/dev/null
stop || fail "the daemon did not end well"
# Entries are JSON text: a shell can count them.
abandoned="$(grep -rhao '"eventType":"signing.signature.abandoned","hash":"[0-9a-f]*"' "$home/archive/tile/entries" | sort -u | wc -l)"
echo "$(archived_size) entries archived; $abandoned key uses were open at the kill and stand there as abandoned"

say "7. Verify offline: no daemon, no network, only the folder and the registry"
"$bin/chancery-verify" ledger "$home/archive" --signers "$home/signers.json"
"$bin/chancery-verify" receipt "$home/receipt.json" --signers "$home/signers.json"

say "8. And a forgery is found"
wipe "$home/forged"
cp -r "$home/archive" "$home/forged"
chmod -R u+w "$home/forged"
victim="$(find "$home/forged/tile/entries" -type f | sort | head -1)"
sed -i 's/"total":"12.50"/"total":"92.50"/' "$victim"
cmp -s "$victim" "${victim/forged/archive}" && fail "the forgery changed nothing"
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
