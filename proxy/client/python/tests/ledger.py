"""A small ledger, made at test time with keys that live as long as the test: what a service could hand out, honest
or not. Trees and proofs are those of RFC 6962's definitions, not of the code under test."""

from __future__ import annotations

import base64
import copy
import hashlib
import importlib
import json
import os
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from chancery_client.canonical import canonical
from chancery_client.leaf import id_of

Json = Dict[str, Any]
ORIGIN = "log.example/test"
MESSAGE = b"what is signed"
HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
ORDER_K1 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def split_of(count: int) -> int:
    split = 1
    while 2 * split < count:
        split *= 2
    return split


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, by its definition."""
    if len(leaves) < 2:
        return sha256(b"\0", leaves[0]) if leaves else sha256()
    split = split_of(len(leaves))
    return sha256(b"\1", tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def path(at: int, leaves: Sequence[bytes]) -> List[bytes]:
    """PATH of RFC 6962 §2.1.1, by its definition."""
    if len(leaves) < 2:
        return []
    split = split_of(len(leaves))
    if at < split:
        return [*path(at, leaves[:split]), tree_hash(leaves[split:])]
    return [*path(at - split, leaves[split:]), tree_hash(leaves[:split])]


class Pair:
    """A key pair: its PEM, and signatures over digests of `MESSAGE`."""

    def __init__(self, algorithm: str, public: Any, sign: Callable[[bytes], bytes]) -> None:
        self.algorithm, self.sign = algorithm, sign
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        self.pem = public and public.public_bytes(serialization.Encoding.PEM, spki).decode()
        self.hash = algorithm[-6:] if algorithm[-6:] in HASHES else "sha256"

    def digest(self, hash: Optional[str] = None) -> bytes:
        return hashlib.new(hash or self.hash, MESSAGE).digest()


def lower_s(der: bytes) -> bytes:
    r, s = utils.decode_dss_signature(der)
    return utils.encode_dss_signature(r, min(s, ORDER_K1 - s))


def pairs() -> Dict[str, Pair]:
    made = []
    edwards = ed25519.Ed25519PrivateKey.generate()
    made.append(Pair("ed25519", edwards.public_key(), edwards.sign))
    curves = [("p256-sha256", ec.SECP256R1()), ("p384-sha384", ec.SECP384R1()), ("secp256k1-sha256", ec.SECP256K1())]
    for name, curve in curves:
        key = ec.generate_private_key(curve)
        scheme = ec.ECDSA(utils.Prehashed(HASHES[name[-6:]]))
        ecdsa = lambda digest, key=key, scheme=scheme: key.sign(digest, scheme)
        low = (lambda digest, sign=ecdsa: lower_s(sign(digest))) if "k1" in name else ecdsa
        made.append(Pair(f"ecdsa-{name}", key.public_key(), low))
    number = rsa.generate_private_key(65_537, 2048)
    for name, hash in HASHES.items():
        pss = padding.PSS(padding.MGF1(hash), hash.digest_size)
        for kind, how in (("rsa", padding.PKCS1v15()), ("rsa-pss", pss)):
            sign = lambda digest, how=how, hash=hash: number.sign(digest, how, utils.Prehashed(hash))
            made.append(Pair(f"{kind}-{name}", number.public_key(), sign))
    made.append(Pair("hmac-sha256", None, lambda digest: b"\7" * 32))
    return {pair.algorithm: pair for pair in made}


def ml_dsa() -> Any:
    """The package's module for ML-DSA, which only newer versions have; ``None`` if it cannot make a key."""
    try:
        module = importlib.import_module("cryptography.hazmat.primitives.asymmetric.mldsa")
        module.MLDSA44PrivateKey.generate()
    except (ImportError, UnsupportedAlgorithm):
        return None
    return module


class MlDsaKey:
    """An ML-DSA-44 key under a name: a real one if the package has it, else bytes of the right lengths."""

    #: Whether the package signs and verifies by ML-DSA-44.
    IS_KNOWN = ml_dsa() is not None

    def __init__(self, name: str = ORIGIN) -> None:
        self.name = name
        self.key = ml_dsa().MLDSA44PrivateKey.generate() if self.IS_KNOWN else None
        self.raw: bytes = self.key.public_key().public_bytes_raw() if self.key else os.urandom(1312)
        self.id = sha256(name.encode(), b"\n\6", self.raw)[:4]
        self.vkey = f"{name}+{self.id.hex()}+{b64(bytes([6]) + self.raw)}"

    def material(self, text: str, time: int = 1_800_000_000) -> bytes:
        """What stands in a line below this text: key id, time, signature."""
        origin, size, root, _ = text.split("\n")
        name, seconds = self.name.encode(), time.to_bytes(8, "big")
        # As C2SP tlog-cosignature has it: label, name, time, origin, first leaf, end, root.
        message = b"subtree/v1\n\0" + bytes([len(name)]) + name + seconds + bytes([len(origin)]) + origin.encode()
        message += bytes(8) + int(size).to_bytes(8, "big") + base64.b64decode(root)
        return self.id + seconds + (self.key.sign(message) if self.key else os.urandom(2420))

    def line(self, text: str) -> str:
        return note_line(self.name, self.material(text))


def note_line(name: str, material: bytes) -> str:
    return f"\u2014 {name} {b64(material)}\n"


class Ledger:
    """Whoever holds its key can make any receipt."""

    def __init__(self) -> None:
        self.key = ed25519.Ed25519PrivateKey.generate()
        self.pairs = pairs()
        self.raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.key_id = sha256(ORIGIN.encode(), b"\n\1", self.raw)[:4]

    def registry(self) -> Json:
        vkey = f"{ORIGIN}+{self.key_id.hex()}+{b64(bytes([1]) + self.raw)}"
        ledger = Pair("ed25519", self.key.public_key(), self.key.sign)
        signers = [self.record("ledger", ledger), *(self.record(kid, pair) for kid, pair in self.pairs.items())]
        return {"version": 1, "ledger": {"origin": ORIGIN, "vkeys": [vkey]}, "signers": signers}

    def record(self, kid: str, pair: Pair) -> Json:
        record: Json = {"signer_kid": f"{kid}-v1", "kid": kid, "algorithm": pair.algorithm, "purpose": "test"}
        times = {"state": "active", "deployedAt": "2026-01-01T00:00:00.000Z", "activatedIndex": 1, "description": ""}
        return {**record, **times, **({"public_key_pem": pair.pem} if pair.pem else {})}

    def issued(self, algorithm: str, hash: Optional[str] = None) -> Json:
        """The payload of a signature by the key of that algorithm, over `MESSAGE`."""
        pair = self.pairs[algorithm]
        digest = pair.digest(hash)
        asked = {"digest": digest.hex(), "digestAlgorithm": hash or pair.hash, "kid": algorithm}
        context = {"metadata": {"order": 17}, "purpose": "shipping", "policy": {"rule": "r", "sha256": "00" * 32}}
        answer = {"release": "durable", "requestId": "r-1", "signer_kid": f"{algorithm}-v1", "algorithm": algorithm}
        use = {"operation": "mac" if "hmac" in algorithm else "sign", "signature": b64(pair.sign(digest))}
        return {**asked, **context, **answer, **use}

    def leaf(self, draft: Json, index: int) -> Json:
        """A leaf at ``index``, its own hash in it unless the draft has another."""
        place = {"id": id_of(ORIGIN, index), "prevHash": "11" * 32, "seq": 3, "signer_kid": "ledger-v1", "version": 1}
        names = {"actor": "svc", "eventType": "signing.signature.issued", "stream": "svc"}
        event = {**names, **place, "ts": "2026-11-21T03:46:35.120Z", **draft}
        wrong = event.pop("hash", None)
        return {**event, "hash": wrong or sha256(canonical(event).encode()).hex()}

    def receipt(self, draft: Json, index: int = 5, size: int = 11) -> Json:
        """A receipt for a draft at ``index`` of a tree of ``size``."""
        event = self.leaf(draft, index)
        leaves = [canonical(event).encode() if at == index else b"leaf %d" % at for at in range(size)]
        note = self.note(f"{ORIGIN}\n{size}\n{b64(tree_hash(leaves))}\n")
        hashes = [one.hex() for one in path(index, leaves)]
        place = {"index": index, "treeSize": size, "inclusionProof": hashes, "checkpoint": note}
        return {"version": 1, "event": event, **place, "rung": "checkpointed"}

    def note(self, text: str) -> str:
        return f"{text}\n{self.line(text)}"

    def line(self, text: str) -> str:
        """The line by Ed25519."""
        return note_line(ORIGIN, self.key_id + self.key.sign(text.encode()))


def damages(document: Any) -> Iterator[Tuple[str, Any]]:
    """Every way to damage one value of a document: each gives where, and a copy with that damage."""
    for at in _paths(document, ()):
        holder, name = _holder(document, at)
        for how, value in _damaged(holder[name]):
            changed = copy.deepcopy(document)
            into, _ = _holder(changed, at)
            into[name] = value
            yield f"{'.'.join(map(str, at))} {how}", changed
        removed = copy.deepcopy(document)
        into, _ = _holder(removed, at)
        del into[name]
        yield f"{'.'.join(map(str, at))} removed", removed


def _paths(value: Any, at: Tuple[Any, ...]) -> Iterator[Tuple[Any, ...]]:
    names = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for name in names:
        yield (*at, name)
        yield from _paths(value[name], (*at, name))


def _holder(document: Any, at: Tuple[Any, ...]) -> Tuple[Any, Any]:
    for name in at[:-1]:
        document = document[name]
    return document, at[-1]


def _damaged(value: Any) -> Iterator[Tuple[str, Any]]:
    yield "of another type", 7 if isinstance(value, str) else "seven"
    if isinstance(value, str):
        for place in {0, len(value) // 2, len(value) - 1} if value else ():
            other = "1" if value[place] == "0" else "0"
            yield f"altered at {place}", value[:place] + other + value[place + 1 :]
        yield "extended", value + "0"
        if value:
            yield "cut", value[:-1]
    elif isinstance(value, int):
        yield from ((str(other), other) for other in (value + 1, value - 1, value + 0.5, -value) if other != value)
        yield "a flag", True
    elif isinstance(value, list):
        yield "extended", [*value, value[0]]
        yield "shortened", value[1:]
        if len(value) > 1:
            yield "reversed", value[::-1]
    elif isinstance(value, dict):
        yield "with another member", {**value, "more": 1}


def text(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False)
