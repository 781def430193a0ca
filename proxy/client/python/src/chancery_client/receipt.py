"""Checks a receipt on the caller's machine.

Nothing here asks the service, and nothing it says is believed but what the registry's keys signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Collection, Dict, List, Mapping, Optional, Tuple, Union

from .canonical import canonical, from_base64, from_hex, parse
from .errors import ReceiptError
from .leaf import check_leaf, check_place, id_of, is_natural, need
from .log import is_included, leaf_hash, sha256, verify_checkpoint
from .registry import Signer, SignersRegistry
from .requests import EventRequest, MacRequest, SignRequest
from .signatures import DIGEST_BYTES, is_mac, takes

#: What was asked of the service.
Asked = Union[SignRequest, MacRequest, EventRequest]


class Anything:
    """Stands for what was asked where a receipt is to be checked alone. Use `ANYTHING`."""


ANYTHING = Anything()

_RECEIPT_CHARS_MAX = 1024 * 1024
_RECEIPT = frozenset(["version", "event", "index", "treeSize", "inclusionProof", "checkpoint", "rung"])
_ISSUED = "signing.signature.issued"
_ANCHORED = "signing.signature.anchored"
# Members of the payloads that hold signatures; a reader refuses others.
_USE = frozenset("digest digestAlgorithm kid policy requestId".split())
_USE_OPTIONAL = frozenset(["metadata", "purpose"])
_SIGNED = _USE | frozenset("algorithm operation release signature signer_kid".split())
_SIGNED_OPTIONAL = _USE_OPTIONAL | frozenset("coSigner dialect idempotencyKey requestSha256".split())
_CO_SIGNER = frozenset("algorithm kid signature signer_kid".split())


@dataclass(frozen=True)
class Proof:
    """What a receipt proved."""

    #: The ledger's name.
    origin: str
    #: Position on the ledger.
    index: int
    #: Leaves under the checkpoint.
    tree_size: int
    #: Root of the checkpoint, hex.
    root: str
    #: The entry as it is on the ledger.
    event: Dict[str, Any]
    #: Standard base64 of the key's own signature, or of the MAC; ``None`` where the entry has none.
    signature: Optional[str]
    #: The key pairs whose individual signatures verified: none, one, or with a co-signer two.
    signers: Tuple[str, ...]
    #: Key pairs whose signatures cannot be verified here; only where that was allowed.
    unverified: Tuple[str, ...]
    #: Whether the receipt itself is the signature of the digest.
    anchored: bool
    #: Algorithms by which the ledger signed the checkpoint, verified: ``ed25519``, and ``ml-dsa-44`` if it did and could
    #: be.
    checkpoint_verified: Tuple[str, ...]
    #: Algorithms by which it signed and this version of ``cryptography`` cannot verify.
    checkpoint_unverified: Tuple[str, ...]


def verify_receipt(
    receipt: str,
    registry: SignersRegistry,
    asked: Union[Asked, Anything],
    *,
    report_unsupported_co_signer: bool = False,
) -> Proof:
    """Verifies a receipt, as text, with the registry alone; raises `ReceiptError`.

    That is: the checkpoint's signature, by a key that may be believed, the way from the event to its root, the event's own hash and place, the
    individual signature by a key that was active there, and that all this is about ``asked``. A co-signature by an
    algorithm that cannot be verified here refuses the receipt, unless it is to be reported in ``unverified``.
    """
    event, index, tree_size, proof, note = _read(receipt)
    try:
        checkpoint = verify_checkpoint(note, registry.origin, registry.note_keys, registry.note_keys_due)
    except ValueError as error:
        raise ReceiptError("checkpoint", f"its checkpoint is refused: {error}") from error
    need(checkpoint.size == tree_size, "checkpoint", "its treeSize is not the checkpoint's")
    leaf = canonical(event).encode()
    included = is_included(leaf_hash(leaf), index, tree_size, proof, checkpoint.root)
    need(included, "inclusion", "its proof does not lead to the checkpoint's root")
    check_leaf(event, leaf)
    check_place(event, index, registry)
    why = "its checkpoint is signed by no ledger key that was neither retired nor compromised at its last entry"
    need(registry.stands(checkpoint), "checkpoint", why)
    signed = _check_signatures(event, index, registry, report_unsupported_co_signer)
    if not isinstance(asked, Anything):
        _check_asked(event, asked, id_of(registry.origin, index))
    by = (checkpoint.verified, checkpoint.unverified)
    return Proof(registry.origin, index, tree_size, checkpoint.root.hex(), event, *signed, *by)


def _read(text: str) -> Tuple[Dict[str, Any], int, int, List[bytes], str]:
    need(len(text) <= _RECEIPT_CHARS_MAX, "shape", "larger than 1 MiB")
    try:
        value = parse(text)
    except ValueError as error:
        raise ReceiptError("shape", f"not valid JSON: {error}") from error
    need(isinstance(value, dict) and value.keys() == _RECEIPT, "shape", "its members are not those of a receipt")
    need(value["version"] == 1 and is_natural(value["version"]), "shape", "not of version 1")
    event, note, hashes = value["event"], value["checkpoint"], value["inclusionProof"]
    whole = isinstance(event, dict) and isinstance(note, str) and isinstance(hashes, list)
    need(whole and is_natural(value["index"]) and is_natural(value["treeSize"]), "shape", "members are missing")
    need(value["rung"] in ("durable", "checkpointed", "witnessed", "archived"), "shape", "unknown rung")
    proof = [from_hex(one) or b"" for one in hashes]
    need(all(len(one) == 32 for one in proof), "shape", "inclusionProof is no list of hashes")
    return event, value["index"], value["treeSize"], proof, note


def _has_exactly(value: object, members: Collection[str], optional: Collection[str] = ()) -> bool:
    if not isinstance(value, dict) or not set(members) <= value.keys() <= {*members, *optional}:
        return False
    objects = ("policy", "metadata", "coSigner")
    return all(isinstance(one, dict if name in objects else str) for name, one in value.items())


_Signed = Tuple[Optional[str], Tuple[str, ...], Tuple[str, ...], bool]


def _check_signatures(event: Dict[str, Any], index: int, registry: SignersRegistry, report: bool) -> _Signed:
    """What individual signatures the entry holds: each must verify, by a key that was active at ``index``."""
    payload, anchored = event["payload"], event["eventType"] == _ANCHORED
    if not anchored and event["eventType"] != _ISSUED:
        return None, (), (), False
    members = (_USE, _USE_OPTIONAL) if anchored else (_SIGNED, _SIGNED_OPTIONAL)
    need(_has_exactly(payload, *members), "event", "its payload is not that of its type")
    digest = from_hex(payload["digest"])
    length = DIGEST_BYTES.get(payload["digestAlgorithm"])
    need(digest is not None and len(digest) == length, "event", "its digest is none")
    if anchored:
        need(registry.has_kid(payload["kid"]), "signer", f"no key of the registry is called {payload['kid']}")
        return None, (), (), True
    uses = [payload]
    if "coSigner" in payload:
        need(_has_exactly(payload["coSigner"], _CO_SIGNER), "event", "its coSigner is none")
        uses.append(payload["coSigner"])
    verified, unverified = [], []
    for position, use in enumerate(uses):
        signer = _active_signer(use, payload, index, registry)
        if signer.key is None:
            continue
        if signer.key.verifies is None:
            can_wait = position > 0 and report
            need(can_wait, "unsupported", f"{signer.algorithm} cannot be verified here ({signer.signer_kid})")
            unverified.append(signer.signer_kid)
            continue
        good = signer.key.verifies(digest or b"", from_base64(use["signature"]) or b"")
        need(good, "signature", f"the signature of {signer.signer_kid} does not verify")
        verified.append(signer.signer_kid)
    return payload["signature"], tuple(verified), tuple(unverified), False


def _active_signer(use: Mapping[str, str], payload: Mapping[str, str], index: int, registry: SignersRegistry) -> Signer:
    """The registry's record of the key that a payload names, if it is that key and could sign at ``index``."""
    name, mac = use["signer_kid"], is_mac(payload["algorithm"])
    signer = registry.signers.get(name)
    if signer is None:
        raise ReceiptError("signer", f"{name} is not in the registry")
    same = signer.algorithm == use["algorithm"] and is_mac(signer.algorithm) == mac
    need(same, "signer", f"{name} is of another algorithm")
    need(signer.kid in (None, use["kid"]), "signer", f"{name} is not a key of {use['kid']}")
    need(signer.is_valid_at(index), "signer", f"{name} was not active at this index")
    need(payload["operation"] == ("mac" if mac else "sign"), "signer", "the operation is not its key's")
    hashed = payload["digestAlgorithm"]
    need(takes(signer.algorithm, hashed), "signature", f"{signer.algorithm} takes no {hashed}")
    need(from_base64(use["signature"]) is not None, "signature", "the signature is not base64 in its one spelling")
    return signer


def _check_asked(event: Dict[str, Any], asked: Asked, own_id: str) -> None:
    """Whether the entry is what was asked for: each thing that was said, and nothing where nothing was."""

    def same(name: str, holder: Mapping[str, Any], wanted: Any) -> None:
        found = None if holder.get(name) is None else canonical(holder[name])
        try:
            text = None if wanted is None else canonical(wanted)
        except ValueError as error:
            raise ReceiptError("another-request", f"the {name} asked for is no JSON: {error}") from error
        need(found == text, "another-request", f"it is about another {name}")

    if isinstance(asked, EventRequest):
        body = asked.body()
        for name in ("eventType", "payload", "manifestSignatureId", "metadata"):
            same(name, event, body.get(name))
        for name in ("stream", "actor", "ts"):
            if name in body:
                same(name, event, body[name])
        same("id", event, asked.id or own_id)
        return
    if isinstance(asked, MacRequest):
        wanted = SignRequest(asked.kid, sha256(asked.message).hex()).body()
        wanted["operation"] = "mac"
    else:
        wanted = asked.body()
        wanted["operation"] = None if asked.anchored else "sign"
    same("eventType", event, _ANCHORED if "mode" in wanted else _ISSUED)
    for name in ("operation", "kid", "digest", "digestAlgorithm", "purpose", "metadata"):
        same(name, event["payload"], wanted.get(name))
