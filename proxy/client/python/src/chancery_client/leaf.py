"""An entry of the ledger, FORMAT.md §1, §1.1, §2, §5 and §7: its shape, its own hash, and that it is in its place."""

from __future__ import annotations

import datetime
import re
from typing import Any, Dict

from .errors import ReceiptError
from .log import sha256
from .registry import SignersRegistry

_LEAF_BYTES_MAX = 65_535
_MEMBERS = frozenset("actor eventType hash id payload prevHash seq signer_kid stream ts version".split())
_OPTIONAL = frozenset(["chain", "manifestSignatureId", "metadata"])
_DIALECTS = frozenset("agent-manager kernel kernel-go kernel-server memory-layer shared".split())
_OUTCOME = re.compile(r"signing\.signature\.(?:issued|failed|abandoned|anchored|checking)")
_GOVERNANCE = re.compile(
    r"(?:governance|kill_switch|signer\.rotation)\..*|signer\.(?:testing|tested|compromise)"
    r"|ledger\.(?:reverified|key\.continued)"
)
_OWN = re.compile(
    r"(?:signing|signer|ledger|kill_switch|governance)\..*|registry\.published|request\.refused"
    r"|policy\.(?:loaded|verdict)"
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}")


def need(condition: bool, fault: str, message: str) -> None:
    """Raises `ReceiptError` unless ``condition`` holds."""
    if not condition:
        raise ReceiptError(fault, message)


def is_natural(value: object) -> bool:
    """Whether it is a whole number that every JSON reader holds exactly."""
    return type(value) is int and 0 <= value < 1 << 53


def _is_plain(value: object, most: int) -> bool:
    return isinstance(value, str) and re.fullmatch(rf"[!#-\[\]-~]{{1,{most}}}", value) is not None


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def check_leaf(event: Dict[str, Any], leaf: bytes) -> None:
    """Raises `ReceiptError` unless ``event``, whose canonical bytes are ``leaf``, is an unaltered entry."""
    need(len(leaf) <= _LEAF_BYTES_MAX, "event", "the event is larger than 65,535 bytes")
    need(_MEMBERS <= event.keys() <= _MEMBERS | _OPTIONAL, "event", "its members are not those of an event")
    names = {"actor": 256, "eventType": 128, "id": 128, "stream": 256, "signer_kid": 64, "manifestSignatureId": 128}
    for name, most in names.items():
        need(name not in event or _is_plain(event[name], most), "event", f"its {name} is no name")
    objects = [event["payload"], event.get("metadata", {})]
    need(all(isinstance(one, dict) for one in objects), "event", "payload and metadata must be objects")
    need(event["version"] == 1 and is_natural(event["version"]) and _is_time(event["ts"]), "event", "version or ts")
    linked = event["prevHash"] is None if event["seq"] == 0 else _is_hash(event["prevHash"])
    need(is_natural(event["seq"]) and linked, "event", "seq or prevHash")
    need(_is_hash(event["hash"]), "event", "its hash is none")
    need("chain" not in event or _is_link(event["chain"]), "event", "its chain is none")
    # The only such text: before it stand names, which hold no quote, and hashes that this one depends on.
    without = leaf.replace(b'"hash":"%s",' % event["hash"].encode(), b"", 1)
    need(sha256(without).hex() == event["hash"], "event", "its hash is not that of its content")


def _is_link(value: object) -> bool:
    """A row's place in its writer's chain. What its hash is over, that writer's verifiers compute again."""
    if not isinstance(value, dict) or value.keys() != {"dialect", "hash", "prevHash"}:
        return False
    before = value["prevHash"]
    return value["dialect"] in _DIALECTS and _is_hash(value["hash"]) and (before is None or _is_hash(before))


def _is_time(value: object) -> bool:
    """Whether it is a time from 1970 on, in the one spelling of leaves."""
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        return False
    try:
        datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        return False
    return value >= "1970" and value[17:19] <= "59"


def check_place(event: Dict[str, Any], index: int, registry: SignersRegistry) -> None:
    """Raises `ReceiptError` unless the event may stand at ``index``, and under a key of the ledger."""
    kind, actor, stream, name = event["eventType"], event["actor"], event["stream"], event["id"]
    own, outcome = _OWN.fullmatch(kind) is not None, _OUTCOME.fullmatch(kind) is not None
    home = "chancery/governance" if _GOVERNANCE.fullmatch(kind) else "chancery"
    reserved = stream == "chancery" or stream.startswith("chancery/") or actor == "chancery"
    at_home = stream == home and actor == "chancery"
    placed = not outcome if at_home else not reserved and (outcome or not own)
    need(placed, "event", "it has a name that is the appliance's own")
    tag = re.escape(_id_tag(registry.origin))
    shaped = re.fullmatch(tag + "[89ab][0-9a-f]{3}-[0-9a-f]{12}", name) is not None
    need(name == id_of(registry.origin, index) or not own and not shaped, "event", "its id is that of another place")
    signer = registry.signers.get(event["signer_kid"])
    retired = signer.retired_index if signer is not None else None
    stands = registry.is_ledger_key(event["signer_kid"]) and (retired is None or index <= retired)
    need(stands, "signer", f"it does not stand under a key of the ledger: {event['signer_kid']}")


def _id_tag(origin: str) -> str:
    tag = sha256(origin.encode())[:6].hex()
    return f"{tag[:8]}-{tag[8:]}-8000-"


def id_of(origin: str, index: int) -> str:
    """The id of the entry at ``index`` if its author gave none."""
    return f"{_id_tag(origin)}{0x8000 | index >> 48:04x}-{index & (1 << 48) - 1:012x}"
