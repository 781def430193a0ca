"""Ledgers of seven entries whose second key, for ML-DSA-44, signs from the entry that activates it until it is retired, made
without our code, with keys that live as long as the program: second_key.py REFERENCE DIR writes DIR/signers.json,
and one archive for each list of checkpoints, DIR/valid-… or DIR/bad-…. The canonical forms and hashes are those of verify.py, in the folder REFERENCE."""
import base64, json, pathlib, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import verify

ORIGIN, TIME = "log.example/second", "2026-11-21T03:46:35.120Z"
first, second, other = Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate(), MLDSA44PrivateKey.generate()
b64 = lambda raw: base64.b64encode(raw).decode()
pem = lambda key: key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def material(key):
    return bytes([1 if key is first else 6]) + key.public_key().public_bytes_raw()


def key_id(key):
    return verify.sha256(ORIGIN.encode(), b"\n", material(key))[:4]


def leaves():
    tag, before, made = verify.sha256(ORIGIN.encode())[:6].hex(), None, []
    activated = lambda kid, key, algorithm: ("signer.activated", {
        "algorithm": algorithm, "birth": {"origin": "generated"}, "kid": kid, "public_key_pem": pem(key), "purpose": "test",
        "signer_kid": f"{kid}-v1"})
    loaded = ("policy.loaded", {"sha256": "00" * 32})
    for seq, (kind, payload) in enumerate([
            ("ledger.opened", {"formatVersion": 1, "origin": ORIGIN}), activated("ledger", first, "ed25519"), loaded,
            activated("second", second, "ml-dsa-44"), loaded, ("signer.retired", {"signer_kid": "second-v1"}), loaded]):
        event = {"actor": "chancery", "eventType": kind, "id": f"{tag[:8]}-{tag[8:]}-8000-8000-{seq:012x}", "payload": payload,
                 "prevHash": before, "seq": seq, "signer_kid": "ledger-v1", "stream": "chancery", "ts": TIME, "version": 1}
        before = event["hash"] = verify.sha256(verify.canonical(event).encode()).hex()
        made.append(verify.canonical(event).encode())
    return made


LEAVES = leaves()


def checkpoint(size, keys):
    levels = [[] for _ in range(64)]
    for leaf in LEAVES[:size]:
        verify.push(levels, verify.sha256(b"\0", leaf))
    text, name, time = f"{ORIGIN}\n{size}\n{b64(verify.root(levels))}\n", ORIGIN.encode(), (1_800_000_000).to_bytes(8, "big")
    named = bytes([len(name)]) + name
    message = b"subtree/v1\n\0" + named + time + named + bytes(8) + size.to_bytes(8, "big") + verify.root(levels)
    signed = lambda key: key.sign(text.encode()) if key is first else time + key.sign(message)
    return text + "\n" + "".join(f"\u2014 {ORIGIN} {b64(key_id(key) + signed(key))}\n" for key in keys)


def archive(folder, epochs):
    for epoch, (size, keys) in enumerate(epochs.items()):
        bundle = b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in LEAVES[:size])
        files = {f"checkpoint/{epoch:012}": checkpoint(size, keys).encode(), f"tile/entries/000.p/{size}": bundle}
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def signer(kid, key, algorithm, **places):
    record = {"signer_kid": f"{kid}-v1", "kid": kid, "algorithm": algorithm, "public_key_pem": pem(key), "purpose": "test"}
    return {**record, "state": "active", "deployedAt": TIME, "description": "", **places}


# Active at 3 and 4, so due on trees of four and five.
CASES = {
    "valid-from-its-activation": {3: [first], 4: [first, second], 5: [first, second], 6: [first]},
    "valid-earlier-and-later": {3: [second, first], 4: [second, first], 7: [first, second]},
    "valid-beside-another": {4: [other, first, second], 7: [first, other]},
    "valid-before-and-after": {3: [first], 6: [first]},
    "bad-at-its-activation": {3: [first], 4: [first], 5: [first, second]},
    "bad-at-its-last": {4: [first, second], 5: [first], 6: [first]},
    "bad-by-another": {4: [first, other]},
    "bad-by-itself": {4: [second]},
}
vkeys = [f"{ORIGIN}+{key_id(key).hex()}+{b64(material(key))}" for key in (first, second, other)]
signers = [signer("ledger", first, "ed25519", activatedIndex=1), signer("second", second, "ml-dsa-44", activatedIndex=3, retiredIndex=5)]
root = pathlib.Path(sys.argv[2])
(root / "signers.json").write_text(json.dumps({"version": 1, "ledger": {"origin": ORIGIN, "vkeys": vkeys}, "signers": signers}))
for name, epochs in CASES.items():
    archive(root / name, epochs)
