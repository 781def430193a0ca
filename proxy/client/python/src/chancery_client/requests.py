"""What can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

Json = Dict[str, Any]


@dataclass(frozen=True)
class SignRequest:
    """A digest to sign, and with which key."""

    #: The key's logical name.
    kid: str
    #: Lower-case hex.
    digest: str
    #: ``sha256``, ``sha384`` or ``sha512``.
    digest_algorithm: str = "sha256"
    #: Whether the receipt, under a signed checkpoint, is to be the signature, and not one by the key itself.
    anchored: bool = False
    #: What it is for; recorded.
    purpose: Optional[str] = None
    #: Context; recorded. At most 32 KiB.
    metadata: Optional[Mapping[str, Any]] = None

    def body(self) -> Json:
        """As the service reads it."""
        members = {
            "mode": "anchored" if self.anchored else None,
            "purpose": self.purpose,
            "metadata": None if self.metadata is None else dict(self.metadata),
        }
        given = {name: value for name, value in members.items() if value is not None}
        return {"kid": self.kid, "digest": self.digest, "digestAlgorithm": self.digest_algorithm, **given}


@dataclass(frozen=True)
class MacRequest:
    """A message to authenticate, and with which key. Only the message's SHA-256 is recorded."""

    kid: str
    message: bytes


@dataclass(frozen=True)
class EventRequest:
    """An event to append."""

    #: Dotted lower case by convention: ``order.paid``.
    event_type: str
    payload: Mapping[str, Any]
    #: Default: the caller's own stream.
    stream: Optional[str] = None
    #: A name of your own; it can be used once.
    id: Optional[str] = None
    #: Who acted, if not the caller.
    actor: Optional[str] = None
    #: RFC 3339 UTC with milliseconds; default: the ledger's clock.
    ts: Optional[str] = None
    manifest_signature_id: Optional[str] = None
    metadata: Optional[Mapping[str, Any]] = None

    def body(self) -> Json:
        """As the service reads it."""
        members = {
            "eventType": self.event_type,
            "payload": dict(self.payload),
            "stream": self.stream,
            "id": self.id,
            "actor": self.actor,
            "ts": self.ts,
            "manifestSignatureId": self.manifest_signature_id,
            "metadata": None if self.metadata is None else dict(self.metadata),
        }
        return {name: value for name, value in members.items() if value is not None}
