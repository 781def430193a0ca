"""``signers.json``: whom a verifier trusts. Validity is by position on the ledger, not by clock."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Collection, Mapping, Optional, Sequence, Union

from .canonical import from_base64, parse
from .errors import RegistryError
from .log import Checkpoint, NoteKey, parse_vkey
from .signatures import ML_DSA_44_KEY_BYTES, PublicKey, is_algorithm, is_mac, read_public_key

_MEMBERS = frozenset(
    """signer_kid kid algorithm public_key_pem purpose state deployedAt retiredAt activatedIndex retiredIndex
    compromisedSince description""".split()
)
_STATES = frozenset(["staged", "active", "deprecated", "retired", "compromised"])
_KID = re.compile(r"[a-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Signer:
    """One key pair of the registry."""

    #: The key pair's name for ever.
    signer_kid: str
    #: The name callers ask for; it outlives the pair.
    kid: Optional[str]
    algorithm: str
    #: ``None`` for MAC keys.
    key: Optional[PublicKey]
    #: First index at which it may sign; ``None`` if it is only staged.
    activated_index: Optional[int]
    #: First index at which it may no longer sign.
    retired_index: Optional[int]
    #: First index from which its signatures are suspect.
    compromised_since: Optional[int]
    #: The bytes of a key for ML-DSA-44.
    ml_dsa_44: Optional[bytes] = None

    def is_valid_at(self, index: int) -> bool:
        """Whether a signature of this key at ``index`` counts."""
        begun = self.activated_index is not None and self.activated_index <= index
        return begun and not self.has_ended_at(index)

    def has_ended_at(self, index: int) -> bool:
        """Whether it is retired or compromised at ``index``."""
        return any(end is not None and end <= index for end in (self.retired_index, self.compromised_since))


@dataclass(frozen=True)
class SignersRegistry:
    """The registry of one ledger's signers. Get it by a way you trust, not from the service you check with it."""

    #: First line of every checkpoint.
    origin: str
    #: The keys that may sign checkpoints: of Ed25519, and of ML-DSA-44 if there are some.
    note_keys: Sequence[NoteKey]
    #: By ``signer_kid``.
    signers: Mapping[str, Signer]

    @staticmethod
    def from_file(path: Union[str, os.PathLike[str]]) -> SignersRegistry:
        """Reads a file. Raises `RegistryError`."""
        try:
            with open(path, encoding="utf-8", newline="") as file:
                return SignersRegistry.parse(file.read())
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryError(f"{path}: {error}") from error

    @staticmethod
    def parse(text: str) -> SignersRegistry:
        """Reads the file's text. One half understood is not trusted: any surprise raises `RegistryError`."""
        try:
            return _read(parse(text))
        except ValueError as error:
            raise RegistryError(f"signers registry: {error}") from error

    def is_ledger_key(self, signer_kid: str) -> bool:
        """Whether entries may stand under this name: that of a key whose checkpoints count."""
        signer = self.signers.get(signer_kid)
        raw = signer.key.ed25519 if signer is not None and signer.key is not None else None
        return raw is not None and any(key.key.raw == raw for key in self.note_keys)

    def stands(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint counts alone: an Ed25519 key that signed it is no signer's, or that of one that was neither
        retired nor compromised at its last entry."""
        last = checkpoint.size - 1
        keys = [one.key for one in self.signers.values() if one.has_ended_at(last)]
        ended = {key.ed25519 for key in keys if key is not None and key.ed25519 is not None}
        return any(key.key.raw not in ended for key in checkpoint.signed_by)

    def note_keys_due(self, size: int) -> Collection[NoteKey]:
        """Keys of which one must have signed a checkpoint of that size beside Ed25519: those of ML-DSA-44 that were
        active at its last entry."""
        active = {one.ml_dsa_44 for one in self.signers.values() if size > 0 and one.is_valid_at(size - 1)}
        return [key for key in self.note_keys if key.algorithm == "ml-dsa-44" and key.key.raw in active]

    def has_kid(self, kid: str) -> bool:
        """Whether some pair has this logical name."""
        return any(signer.kid == kid for signer in self.signers.values())


def _need(condition: bool, why: str) -> None:
    if not condition:
        raise ValueError(why)


def _read(file: Any) -> SignersRegistry:
    whole = isinstance(file, dict) and file.keys() == {"version", "ledger", "signers"}
    _need(
        whole and file["version"] == 1 and file["version"] is not True and isinstance(file["signers"], list),
        "not of version 1",
    )
    ledger = file["ledger"]
    whole = isinstance(ledger, dict) and {"origin", "vkeys"} <= ledger.keys() <= {"origin", "vkeys", "policy"}
    _need(whole, "no ledger")
    origin, vkeys = ledger["origin"], ledger["vkeys"]
    keys = [parse_vkey(vkey) for vkey in vkeys] if isinstance(vkeys, list) else []
    known = [key for key in keys if key is not None and key.name == origin]
    _need(len(known) == len(keys) and any(key.algorithm == "ed25519" for key in known), "no valid keys of the ledger")
    _need("policy" not in ledger or _logs(ledger["policy"]) == set(vkeys), "the policy is not of these keys")
    signers = [_signer(entry) for entry in file["signers"]]
    named = {signer.signer_kid: signer for signer in signers}
    _need(len(named) == len(signers), "lists a signer twice")
    return SignersRegistry(origin, known, named)


def _logs(policy: Any) -> set[str]:
    """The keys of a policy's logs. Its witnesses are not read: nothing here counts cosignatures."""
    _need(isinstance(policy, str) and policy.endswith("\n"), "a policy that is no text of lines")
    lines = [re.split(r"[ \t]+", line.strip(" \t")) for line in policy.split("\n")]
    return {words[1] for words in lines if words[0] == "log" and len(words) in (2, 3)}


def _signer(entry: Any) -> Signer:
    _need(isinstance(entry, dict) and _MEMBERS >= entry.keys(), "a signer with unknown members")
    name, kid, algorithm, pem = (entry.get(name) for name in ("signer_kid", "kid", "algorithm", "public_key_pem"))
    for one in (name, kid if "kid" in entry else name):
        _need(isinstance(one, str) and _KID.fullmatch(one) is not None, "a signer without a valid name")
    _need(isinstance(algorithm, str) and is_algorithm(algorithm), f"{name}: an unknown algorithm")
    _need(isinstance(entry.get("state"), str) and entry["state"] in _STATES, f"{name}: an unknown state")
    _need(is_mac(algorithm) == ("public_key_pem" not in entry), f"{name}: a missing or needless key")
    _need(pem is None or isinstance(pem, str), f"{name}: a key that is no text")
    try:
        key = None if pem is None else read_public_key(algorithm, pem)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    places = [entry.get(place) for place in ("activatedIndex", "retiredIndex", "compromisedSince")]
    for place in places:
        _need(place is None or type(place) is int and 0 <= place < 1 << 53, f"{name}: an index that is none")
    # It ends its SPKI, which a version without the algorithm does not read.
    spki = from_base64(re.sub("-----.*?-----|\n", "", pem)) if algorithm == "ml-dsa-44" and pem is not None else None
    raw = None if spki is None else spki[-ML_DSA_44_KEY_BYTES:]
    activated, retired, compromised = places
    _need(entry["state"] != "compromised" or compromised is not None, f"{name}: compromised, and not since when")
    return Signer(name, kid, algorithm, key, activated, retired, compromised, raw)
