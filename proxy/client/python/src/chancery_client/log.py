"""The transparency log's arithmetic: RFC 6962 hashes, RFC 9162 inclusion proofs, C2SP signed checkpoints."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Callable, Collection, Dict, Optional, Sequence, Tuple, Union

from .canonical import from_base64
from .signatures import ML_DSA_44_SIGNATURE_BYTES, Ed25519Key, MlDsa44Key

#: Largest note read, in characters, and most signature lines.
NOTE_MAX = 1024 * 1024
SIGNATURES_MAX = 100


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of all parts, one after the other."""
    return hashlib.sha256(b"".join(parts)).digest()


def leaf_hash(entry: bytes) -> bytes:
    """The tree's hash of one entry."""
    return sha256(b"\0", entry)


def node_hash(left: bytes, right: bytes) -> bytes:
    """The tree's hash of two children."""
    return sha256(b"\1", left, right)


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether ``proof``, from the leaf's sibling to the root's child, leads from ``leaf`` at ``index`` to ``root``."""
    if not 0 <= index < size:
        return False
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            # A node without a right neighbour moves up unchanged.
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and node == root


#: Longest name that an ML-DSA-44 signature can cover, in bytes.
_NAME_BYTES_MAX = 255


@dataclass(frozen=True)
class NoteKey:
    """A key that may sign checkpoints."""

    name: str
    #: Four bytes.
    id: bytes
    key: Union[Ed25519Key, MlDsa44Key]

    @property
    def algorithm(self) -> str:
        """As the registry calls it."""
        return "ed25519" if isinstance(self.key, Ed25519Key) else "ml-dsa-44"


def parse_vkey(vkey: object) -> Optional[NoteKey]:
    """Reads ``name+hex(key id)+base64(type ‖ key)``.

    ``None`` if it is not a key of type 0x01 (Ed25519) or 0x06 (ML-DSA-44) in its one spelling.
    """
    match = re.fullmatch(r"([^\s+\0-\x1f\x7f]+)\+([0-9a-f]{8})\+(\S+)", vkey) if isinstance(vkey, str) else None
    material = from_base64(match[3]) if match else None
    if match is None or material is None:
        return None
    key_id = sha256(match[1].encode(), b"\n", material)[:4]
    key: Union[None, Ed25519Key, MlDsa44Key] = None
    if material[:1] == b"\1":
        key = Ed25519Key.read(material[1:])
    elif material[:1] == b"\6" and len(match[1].encode()) <= _NAME_BYTES_MAX:
        key = MlDsa44Key.read(material[1:])
    return NoteKey(match[1], key_id, key) if key is not None and key_id.hex() == match[2] else None


@dataclass(frozen=True)
class Head:
    """What a checkpoint says."""

    origin: str
    #: Number of leaves.
    size: int
    #: 32 bytes.
    root: bytes


@dataclass(frozen=True)
class Checkpoint(Head):
    """A checkpoint whose signature was verified."""

    #: Algorithms of the given keys' signatures on it that verified, Ed25519 among them.
    verified: Tuple[str, ...]
    #: Algorithms of those that this version of ``cryptography`` cannot verify.
    unverified: Tuple[str, ...]
    #: The Ed25519 keys among them: at least one.
    signed_by: Tuple[NoteKey, ...]


def cosigned_message(name: str, time: bytes, head: Head) -> bytes:
    """What a key of this name signs by ML-DSA-44 for a checkpoint (C2SP tlog-cosignature); ``time`` is eight bytes."""

    def named(text: str) -> bytes:
        return bytes([len(text.encode())]) + text.encode()

    numbers = bytes(8) + head.size.to_bytes(8, "big")
    return b"subtree/v1\n\0" + named(name) + time + named(head.origin) + numbers + head.root


def _is_signed_by(key: NoteKey, text: bytes, head: Head, signature: bytes) -> Optional[bool]:
    """Whether a line by ``key`` verifies; ``None`` if it cannot be told here."""
    if isinstance(key.key, Ed25519Key):
        return key.key.verifies(text, signature)
    time, signature = signature[:8], signature[8:]
    # Times end at 2^63 - 1.
    if len(signature) != ML_DSA_44_SIGNATURE_BYTES or time[0] > 0x7F or len(head.origin.encode()) > _NAME_BYTES_MAX:
        return False
    return None if key.key.verifies is None else key.key.verifies(cosigned_message(key.name, time, head), signature)


def _read_head(text: str) -> Head:
    parts = re.fullmatch(r"([^\n]*)\n(0|[1-9][0-9]{0,15})\n([^\n]*)\n", text)
    root = from_base64(parts[3]) if parts else None
    if parts is None or root is None or len(root) != 32 or int(parts[2]) >= 1 << 53:
        raise ValueError("not a checkpoint")
    return Head(parts[1], int(parts[2]), root)


def verify_checkpoint(
    note: str, origin: str, keys: Sequence[NoteKey], due: Callable[[int], Collection[NoteKey]] = lambda size: ()
) -> Checkpoint:
    """Reads a C2SP checkpoint of ``origin`` and verifies it; raises ``ValueError`` with the reason.

    Lines of unknown keys are ignored; a known key whose signature fails refuses the note, whatever else signed it, and
    so does one that signed by ML-DSA-44 alone. ``due`` gives the keys of which one must have signed a checkpoint of a
    size, if there are some.
    """
    text, blank, lines = note.rpartition("\n\n")
    text += "\n"
    if len(note) > NOTE_MAX or not blank or not lines.endswith("\n") or re.search(r"[\0-\t\x0b-\x1f]", note):
        raise ValueError("not a signed note")
    signatures = lines[:-1].split("\n")
    if len(signatures) > SIGNATURES_MAX:
        raise ValueError("too many signatures")
    head = _read_head(text)
    if head.origin != origin:
        raise ValueError("of another ledger")
    signed: Dict[Tuple[str, bytes], Tuple[str, bool]] = {}
    for line in signatures:
        match = re.fullmatch(r"\u2014 ([^\s+]+) (\S+)", line)
        material = from_base64(match[2]) if match else None
        if match is None or material is None or len(material) < 5:
            raise ValueError("a line that is no signature")
        named = (match[1], material[:4])
        key = next((key for key in keys if (key.name, key.id) == named), None)
        if key is None:
            continue
        verdict = _is_signed_by(key, text.encode(), head, material[4:])
        if named in signed or verdict is False:
            raise ValueError("its signature does not verify")
        signed[named] = (key.algorithm, verdict is True)
    own = {told for (name, _), told in signed.items() if name == origin}
    verified, unverified = (tuple(sorted(name for name, is_so in own if is_so is wanted)) for wanted in (True, False))
    if "ed25519" not in verified:
        raise ValueError("not signed by an Ed25519 key of the registry")
    needed = {(key.name, key.id) for key in due(head.size)}
    if needed and not needed & signed.keys():
        raise ValueError("lacks the signature by ML-DSA-44 that is due")
    own_keys = (key for key in keys if key.name == origin and key.algorithm == "ed25519")
    signed_by = tuple(key for key in own_keys if (key.name, key.id) in signed)
    return Checkpoint(head.origin, head.size, head.root, verified, unverified, signed_by)
