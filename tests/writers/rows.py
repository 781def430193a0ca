"""Rows as the Go kernel's file store and as SAFE-AI make them, in a few lines of their own:
rows.py kernel-go|safe-ai COUNT DIR [FORK] writes DIR/rows.ndjson and DIR/signers.json. Row FORK follows the row before
the last one."""
import base64, hashlib, json, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

dialect, count, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
fork = int(sys.argv[4]) if len(sys.argv) > 4 else -1
rows, signers, made = [], [], []
if dialect == "kernel-go":
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signers = [{"signerId": "kernel-go-v1", "algorithm": "Ed25519", "publicKey": base64.b64encode(raw).decode()}]
    before = b""
    for n in range(count):
        before = made[n - 2] if n == fork else before
        # encoding/json: sorted, without spaces, safe in HTML; numbers keep their text.
        text = f'{{"amount":{n}.5,"note":"a < b & c","order":{n}}}'
        canonical = text.replace("<", "\\u003c").replace("&", "\\u0026")
        digest = hashlib.sha256(canonical.encode() + before).digest()
        row = {"id": f"id-{n}", "eventType": "order.paid", "hash": digest.hex(), "prevHash": before.hex(),
               "signature": base64.b64encode(key.sign(digest)).decode(), "signerId": "kernel-go-v1",
               "ts": "2026-01-15T12:00:00.123456789Z", "metadata": {}}
        rows.append(json.dumps(row)[:-1] + f', "payload": {text}}}')
        before = digest
        made.append(digest)
else:
    root = hashlib.sha256(b"SAFEAI_GENESIS_2025").hexdigest()
    made.append(root)
    rows.append(json.dumps({"ts": "2026-01-15T11:59:59", "event": "genesis", "merkle_root": root, "version": "1.0.0"}))
    for n in range(count - 1):
        root = made[n - 1] if n + 1 == fork else root
        record = {"ts": f"2026-01-15T12:00:{n % 60:02}", "actor": "cli", "manifest_sha256": f"hash{n}",
                  "policy_verdict": "approved", "sandbox_result": {"é": 1.0}, "merkle_root": "", "prev_root": root,
                  "version": "1.0.0", "applied": True, "error": None}
        root = hashlib.sha256((root + json.dumps(record, sort_keys=True)).encode()).hexdigest()
        rows.append(json.dumps({**record, "merkle_root": root}))
        made.append(root)
with open(f"{folder}/rows.ndjson", "w") as out:
    out.writelines(row + "\n" for row in rows)
with open(f"{folder}/signers.json", "w") as out:
    json.dump({"signers": signers}, out)
