"""The transparency log's arithmetic: RFC 6962 hashes, RFC 9162 inclusion proofs, C2SP signed checkpoints."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Optional, Sequence

from .canonical import from_base64
from .signatures import Ed25519Key

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


@dataclass(frozen=True)
class NoteKey:
    """A key that may sign checkpoints."""

    name: str
    #: Four bytes.
    id: bytes
    key: Ed25519Key


def parse_vkey(vkey: object) -> Optional[NoteKey]:
    """Reads ``name+hex(key id)+base64(type ‖ key)``; ``None`` if it is not an Ed25519 key in its one spelling."""
    match = re.fullmatch(r"([^\s+\0-\x1f\x7f]+)\+([0-9a-f]{8})\+(\S+)", vkey) if isinstance(vkey, str) else None
    material = from_base64(match[3]) if match else None
    if match is None or material is None or len(material) != 33 or material[0] != 1:
        return None
    key_id = sha256(match[1].encode(), b"\n", material)[:4]
    key = Ed25519Key.read(material[1:])
    return NoteKey(match[1], key_id, key) if key is not None and key_id.hex() == match[2] else None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose signature was verified."""

    origin: str
    #: Number of leaves.
    size: int
    #: 32 bytes.
    root: bytes


def verify_checkpoint(note: str, origin: str, keys: Sequence[NoteKey]) -> Checkpoint:
    """Reads a C2SP checkpoint of ``origin`` and verifies it; raises ``ValueError`` with the reason.

    Lines of unknown keys are ignored; a known key whose signature fails refuses the note.
    """
    text, blank, lines = note.rpartition("\n\n")
    text += "\n"
    if len(note) > NOTE_MAX or not blank or not lines.endswith("\n") or re.search(r"[\0-\t\x0b-\x1f]", note):
        raise ValueError("not a signed note")
    signatures = lines[:-1].split("\n")
    if len(signatures) > SIGNATURES_MAX:
        raise ValueError("too many signatures")
    signed = set()
    for line in signatures:
        match = re.fullmatch(r"\u2014 ([^\s+]+) (\S+)", line)
        material = from_base64(match[2]) if match else None
        if match is None or material is None or len(material) < 5:
            raise ValueError("a line that is no signature")
        for key in (key for key in keys if (key.name, key.id) == (match[1], material[:4])):
            if key.id in signed or not key.key.verifies(text.encode(), material[4:]):
                raise ValueError("its signature does not verify")
            signed.add(key.id)
    parts = re.fullmatch(r"([^\n]*)\n(0|[1-9][0-9]{0,15})\n([^\n]*)\n", text)
    root = from_base64(parts[3]) if parts else None
    if parts is None or root is None or len(root) != 32 or int(parts[2]) >= 1 << 53:
        raise ValueError("not a checkpoint")
    if parts[1] != origin:
        raise ValueError("of another ledger")
    if not signed:
        raise ValueError("not signed by a key of the registry")
    return Checkpoint(origin, int(parts[2]), root)
