#!/usr/bin/env bash
# `make run`: a development instance in target/dev that stays up until it is told to end. An instance that
# is there already goes on; remove target/dev for a new one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source .ci/env
[ -n "${CHANCERY_BIN_DIR:-}" ] || .ci/release
source tests/demo/instance.sh

mkdir -p "$root/target"
rm -f "$root/target/dev/ready"
trap 'rm -f "$root/target/dev/ready"; stop || true' EXIT
trap 'exit 0' INT TERM

prepare "$root/target/dev"
start
# One signature of our own, so that there is a receipt to look at.
printf 'hello\n' >"$home/hello.txt"
kid="$("$bin/chancery" keys list | awk '$3 == "ed25519" && $1 != "ledger" { print $1; exit }')"
"$bin/chancery" sign --kid "$kid" --file "$home/hello.txt" --receipt "$home/receipt.json" --signers "$home/signers.json" >"$home/signed.txt"
echo "$url" >"$home/ready.part"
mv "$home/ready.part" "$home/ready"

cat <<END
Chancery serves $url (log: target/dev/daemon.log). End it with Ctrl-C.

Paste this into another shell:
  export CHANCERY_URL=$url CHANCERY_CA=$home/ca.crt
  export CHANCERY_CERT=$home/client.crt CHANCERY_KEY=$home/client.key CHANCERY_OPS=$ops
  export PATH=$bin:\$PATH

  chancery keys list
  chancery sign --kid $kid --file README.md --receipt receipt.json
  chancery event append --type order.paid --payload '{"order":17}'
  chancery status

  curl --cacert \$CHANCERY_CA --cert \$CHANCERY_CERT --key \$CHANCERY_KEY \\
    -H 'content-type: application/json' -H 'idempotency-key: try-1' \\
    -d '{"kid":"$kid","digest":"'\$(sha256sum <README.md | cut -d' ' -f1)'","digestAlgorithm":"sha256"}' \\
    $url/v1/sign
  curl $ops/metrics

  chancery-verify receipt $home/receipt.json --signers $home/signers.json
  chancery-verify ledger $home/archive --signers $home/signers.json
END
status=0
wait "$daemon" || status=$?
daemon=
tail -5 "$home/daemon.log" >&2
exit "$status"
