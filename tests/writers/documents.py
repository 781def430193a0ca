"""Documents that the platform's Go services sign, in a few lines of their own: documents.py DIR writes them and
DIR/signers.json."""
import base64, hashlib, json, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

folder = sys.argv[1]
key = Ed25519PrivateKey.generate()
raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
kid = "kernel-go-ed25519-v1"
b64 = lambda data: base64.b64encode(data).decode()
sorted_text = lambda value: json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def html_safe(text):
    """encoding/json with its HTML escapes, over a text that has none of these outside of strings."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def write(name, text):
    with open(f"{folder}/{name}", "w") as out:
        out.write(text)


# The Go kernel: Ed25519 over the hash of the canonical manifest; numbers keep their text.
manifest = {"id": "manifest-9", "name": "a < b & c", "limits": {"ratio": 1.0, "memoryMb": 512}, "tags": ["é", None, True]}
digest = hashlib.sha256(html_safe(sorted_text(manifest)).encode()).digest()
reply = {"id": "5e0c1a52-0000-4000-8000-000000000001", "manifestId": "manifest-9", "signerId": kid,
         "signature": b64(key.sign(digest)), "version": "2", "ts": "2026-02-03T04:05:06.123456789Z"}
write("go.json", json.dumps({"manifest": manifest, **reply}, indent=1))
write("go-reply.json", json.dumps(reply))
write("go-manifest.json", json.dumps(manifest))
# Where a manifest has no id, its name is made of its hash.
anonymous = {name: value for name, value in manifest.items() if name not in ("id", "name")}
digest = hashlib.sha256(sorted_text(anonymous).encode()).digest()
derived = {**reply, "manifestId": f"{digest[:8].hex()}-1770091506", "signature": b64(key.sign(digest))}
write("go-derived.json", json.dumps({"manifest": anonymous, **derived}))

# reasoning-graph, sealed: the hash of the canonical members is signed.
sealed = {"id": "snap-1", "root_ids": ["n-1", "n-2"], "created_at": "2026-02-03T04:05:06.123456Z",
          "reasoning_graph_version": "1.0.0", "payload": {"nodes": [{"id": "n-1", "text": "<é>"}], "edges": []}}
for name, members in [("sealed.json", sealed), ("sealed-bound.json", {**sealed, "manifest_signature_id": "sig-4"})]:
    digest = hashlib.sha256(sorted_text(members).encode()).digest()
    write(name, json.dumps({**members, "snapshot_bytes_canonical_hash": b64(digest), "signer_kid": kid,
                            "signature": b64(key.sign(digest))}, indent=2))

# reasoning-graph, the graph itself: today the text is signed, before that its hash.
node = lambda n: {"id": f"00000000-0000-4000-8000-00000000000{n}", "type": "decision", "payload": {"why": "a < b", "n": n},
                  "author": "ann", "metadata": None, "createdAt": "2026-02-03T04:05:06Z"}
graph = {"nodes": [node(1), node(2)],
         "edges": [{"id": "e-1", "from": node(1)["id"], "to": node(2)["id"], "type": "causal", "metadata": {}, "createdAt": "2026-02-03T04:05:07Z"}]}


def persisted(text, signature):
    return {"id": "snap-2", "rootNodeIds": [node(1)["id"]], "description": "weekly", "signerId": kid,
            "hash": hashlib.sha256(text.encode()).hexdigest(), "signature": b64(signature), "createdAt": "2026-02-03T04:05:08Z"}


text = sorted_text(graph)
write("graph.json", json.dumps({**persisted(text, key.sign(text.encode())), "snapshot": graph}, indent=2))
# An older writer: members in the order of its structures, safe in HTML, and the hash is signed.
older = html_safe(json.dumps(graph, separators=(",", ":"), ensure_ascii=False))
members = json.dumps(persisted(older, key.sign(hashlib.sha256(older.encode()).digest())))
write("graph-older.json", members[:-1] + f', "snapshot": {older}}}')

write("signers.json", json.dumps({kid: {"publicKey": b64(raw), "kid": kid}}))
