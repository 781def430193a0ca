#!/usr/bin/env python3
"""An independent verifier of an archived ledger, written from FORMAT.md alone.

    verify.py ARCHIVE --signers signers.json

Exit 0 valid, 1 bad, 2 usage, 3 evidence missing. Needs the package `cryptography` and nothing of ours.
"""
import base64, functools, hashlib, json, os, re, sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FINDINGS, MISSING = [], []
bad = lambda place, why: FINDINGS.append(f"{place}: {why}")
sha256 = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
PLAIN = {"actor": 256, "eventType": 128, "id": 128, "stream": 256}
ORDER = ["actor", "eventType", "hash", "id", "manifestSignatureId", "metadata", "payload", "prevHash", "seq",
         "signer_kid", "stream", "ts", "version"]

def refuse(when, why):
    if when:
        raise ValueError(why)

def b64(text):
    raw = base64.b64decode(text, validate=True)
    refuse(base64.b64encode(raw).decode() != text, "second spelling of base64")
    return raw

def no_duplicates(pairs):
    refuse(len({name for name, _ in pairs}) != len(pairs), "duplicate member")
    return dict(pairs)

def open_note(note, keys):
    """The signed text, if a known key signed it and none of the known ones fails."""
    text, _, lines = note.rpartition("\n\n")
    refuse(not lines.endswith("\n") or any(c < " " and c != "\n" for c in note), "not a note")
    text, known = text + "\n", 0
    for line in lines[:-1].split("\n"):
        dash, name, material = line.split(" ")
        material = b64(material)
        refuse(dash != "\u2014" or len(material) < 5, "not a signature line")
        if (name, material[:4]) in keys:
            keys[name, material[:4]].verify(material[4:], text.encode())
            known += 1
    refuse(known != 1, "not signed by exactly one known key")
    return text

def verify_signature(algorithm, pem, digest, signature):
    key = serialization.load_pem_public_key(pem.encode())
    prehashed = utils.Prehashed(hashes.SHA256())
    how = {"ed25519": [], "ecdsa-p256-sha256": [ec.ECDSA(prehashed)], "rsa-sha256": [padding.PKCS1v15(), prehashed],
           "rsa-pss-sha256": [padding.PSS(padding.MGF1(hashes.SHA256()), 32), prehashed]}
    key.verify(signature, digest, *how[algorithm])

class Tree:
    """RFC 6962 by levels: the complete nodes of each level not yet joined, and the full tiles they make."""

    def __init__(self):
        self.size, self.edge, self.tiles = 0, [], {}

    def push(self, node, level=0):
        if level == 0:
            self.size += 1
        if level % 8 == 0:
            self.tiles.setdefault(level // 8, []).append(node)
        self.edge += [None] * (level + 1 - len(self.edge))
        if self.edge[level] is None:
            self.edge[level] = node
        else:
            left, self.edge[level] = self.edge[level], None
            self.push(sha256(b"\1", left, node), level + 1)

    def root(self):
        nodes = [node for node in self.edge if node is not None]
        return functools.reduce(lambda right, left: sha256(b"\1", left, right), nodes) if nodes else sha256()

def tile_path(index):
    groups = [f"{index % 1000:03}"]
    while index >= 1000:
        index //= 1000
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups)

def read_leaf(raw, index, state):
    event = json.loads(raw, object_pairs_hook=no_duplicates)
    refuse(list(event) != [name for name in ORDER if name in event] or set(ORDER) - set(event) - {"manifestSignatureId", "metadata"}, "members")
    member = b'"hash":"%s",' % event["hash"].encode()
    refuse(not re.fullmatch("[0-9a-f]{64}", event["hash"]) or sha256(raw.replace(member, b"", 1)).hex() != event["hash"], "hash does not match content")
    for name, most in PLAIN.items():
        refuse(not re.fullmatch(r'[!#-\[\]-~]{1,%d}' % most, event[name]), name)
    seq, link = state["streams"].get(event["stream"], (-1, None))
    refuse(event["seq"] != seq + 1 or event["prevHash"] != link or event["version"] != 1, "does not continue its stream")
    state["streams"][event["stream"]] = (event["seq"], event["hash"])
    payload, kind = event["payload"], event["eventType"]
    refuse(kind == "ledger.opened" and (index != 0 or payload["origin"] != state["origin"]), "wrong opening")
    if kind == "signer.activated":
        known = state["signers"][payload["signer_kid"]]
        same = [known.get("public_key_pem"), known["algorithm"], known["activatedIndex"]]
        refuse(same != [payload.get("public_key_pem"), payload["algorithm"], index], "not the key of the registry")
        state["active"].add(payload["signer_kid"])
    if kind == "signer.retired":
        state["active"].remove(payload["signer_kid"])
    if kind == "registry.published":
        state["published"][payload["version"]] = payload["sha256"]
    if kind == "signing.signature.issued":
        known = state["signers"][payload["signer_kid"]]
        refuse(payload["signer_kid"] not in state["active"] or index >= known.get("compromisedSince", 1 << 64), "signer is not active here")
        refuse(payload["algorithm"] != known["algorithm"] or payload["digestAlgorithm"] != "sha256", "algorithm")
        if known["algorithm"] != "hmac-sha256":
            verify_signature(known["algorithm"], known["public_key_pem"], bytes.fromhex(payload["digest"]), b64(payload["signature"]))

def main(archive, signers):
    with open(signers, "rb") as file:
        registry = json.load(file, object_pairs_hook=no_duplicates)
    origin, keys = registry["ledger"]["origin"], {}
    for vkey in registry["ledger"]["vkeys"]:
        name, _, material = vkey.split("+", 2)
        public = b64(material)[1:]
        keys[name, sha256(name.encode(), b"\n\1", public)[:4]] = Ed25519PublicKey.from_public_bytes(public)
    found = {os.path.relpath(os.path.join(at, name), archive) for at, _, names in os.walk(archive) for name in names}
    objects = {}

    def read(name):
        if name not in found:
            MISSING.append(name)
            return b""
        objects[name] = True
        with open(os.path.join(archive, name), "rb") as file:
            return file.read()

    heads = {}
    for epoch in range(sum(name.startswith("checkpoint/") for name in found)):
        name = f"checkpoint/{epoch:012}"
        try:
            lines = open_note(read(name).decode(), keys).split("\n")
            refuse(lines[0] != origin or len(lines) != 4 or str(int(lines[1])) != lines[1] or int(lines[1]) <= max(heads, default=-1), "not the next checkpoint")
            heads[int(lines[1])] = b64(lines[2])
        except (ValueError, InvalidSignature) as error:
            bad(name, error or "signature")
    size, tree = max(heads, default=0), Tree()
    if not heads:
        MISSING.append("checkpoint/000000000000")
    state = {"streams": {}, "active": set(), "published": {}, "origin": origin,
             "signers": {signer["signer_kid"]: signer for signer in registry["signers"]}}
    tails = {}
    for head in heads:
        if head % 256:
            tails.setdefault(head // 256, {})[head % 256] = read(f"tile/entries/{tile_path(head // 256)}.p/{head % 256}")
    for number in range((size + 255) // 256):
        width = min(256, size - number * 256)
        name = "tile/entries/" + tile_path(number)
        bundle, at, count = read(name) if width == 256 else tails[number][width], 0, 0
        for width_of_tail, tail in tails.get(number, {}).items():
            if not tail or not bundle.startswith(tail):
                bad(f"{name}.p/{width_of_tail}", "is not the beginning of its bundle")
        while at < len(bundle):
            length = int.from_bytes(bundle[at:at + 2], "big")
            raw, at, index = bundle[at + 2:at + 2 + length], at + 2 + length, tree.size
            if at > len(bundle):
                bad(name, "truncated")
                break
            try:
                read_leaf(raw, index, state)
            except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature) as error:
                bad(f"leaf {index}", repr(error))
            tree.push(sha256(b"\0", raw))
            count += 1
            if tree.size in heads and heads[tree.size] != tree.root():
                bad(f"size {tree.size}", "root differs from the checkpoint's")
        if count != width:
            bad(name, f"holds {count} leaves, not {width}")
    for level, nodes in tree.tiles.items():
        for number in range(len(nodes) // 256):
            name = f"tile/{level}/{tile_path(number)}"
            if read(name) != b"".join(nodes[number * 256:number * 256 + 256]):
                bad(name, "does not hold the tree's hashes")
    for version in range(1, max([*state["published"], 0]) + 2):
        name = f"registry/{version:08}.json"
        if version in state["published"] or name in found or name + ".sig" in found:
            digest = sha256(read(name)).hex()
            try:
                text = open_note(read(name + ".sig").decode(), keys)
                refuse(text != f"{origin}/signers\n{version}\n{digest}\n" or digest != state["published"].get(version, digest), "not the announced version")
            except (ValueError, InvalidSignature) as error:
                bad(name, error or "signature")
    for name in sorted(found - set(objects)):
        bad(name, "nothing of the ledger has this name")
    for line in FINDINGS[:100] + [f"{name}: missing" for name in MISSING[:100]]:
        print(line)
    print(f"{tree.size} leaves, {len(heads)} checkpoints, {len(FINDINGS)} bad, {len(MISSING)} missing")
    present = [finding for finding in FINDINGS if not any(finding.startswith(name) for name in MISSING)]
    return 0 if not FINDINGS and not MISSING else 1 if present else 3

if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[2] != "--signers":
        print(__doc__)
        sys.exit(2)
    sys.exit(main(sys.argv[1], sys.argv[3]))
