"""What is answered. Members a reply has beside these are ignored: the service may add some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, List, Mapping, Optional, TypeVar, Union

from .errors import Problem, ReplyError
from .requests import Json

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """A reply as read, beside its text."""

    #: What this client understood.
    value: T
    #: The body exactly as it came. Retries under one key get the same.
    body: str
    #: The service's ``x-request-id``.
    request_id: Optional[str]
    #: The key the request went out under.
    idempotency_key: Optional[str]


class Reader:
    """Takes members out of a reply; one that is not there or of another type raises `ReplyError`."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise ReplyError("unreadable reply: not an object")
        self.value: Json = value

    def text(self, name: str) -> str:
        """A text."""
        found = self.value.get(name)
        if not isinstance(found, str):
            raise ReplyError(f"unreadable reply: no text {name!r}")
        return found

    def number(self, name: str) -> int:
        """A whole number."""
        found = self.value.get(name)
        if type(found) is not int:
            raise ReplyError(f"unreadable reply: no number {name!r}")
        return found

    def optional(self, name: str) -> Optional[str]:
        """A text that may be absent."""
        return None if self.value.get(name) is None else self.text(name)

    def index(self) -> int:
        """The position in ``receipt``."""
        return Reader(self.value.get("receipt")).number("index")


@dataclass(frozen=True)
class SignReply:
    """A signature that is on the ledger."""

    #: The entry's name.
    id: str
    kid: str
    #: The key pair that signed; the ledger's own where the digest was anchored.
    signer_kid: str
    digest: str
    digest_algorithm: str
    #: ``None`` where the digest was anchored.
    algorithm: Optional[str]
    #: Standard base64; ``None`` where the digest was anchored.
    signature: Optional[str]
    #: The second signature, if the key has a co-signer.
    co_signer: Optional[Json]
    #: When it was enrolled, RFC 3339.
    ts: str
    #: What held before release: ``durable``, ``checkpointed``, ``witnessed``, ``archived``. The service's word, not proven.
    rung: str
    #: Position on the ledger.
    index: int
    #: The receipt, whole, or where it is.
    receipt: Json

    @staticmethod
    def read(value: object) -> SignReply:
        """Raises `ReplyError`."""
        it = Reader(value)
        return SignReply(
            id=it.text("id"),
            kid=it.text("kid"),
            signer_kid=it.text("signer_kid"),
            digest=it.text("digest"),
            digest_algorithm=it.text("digestAlgorithm"),
            algorithm=it.optional("algorithm"),
            signature=it.optional("signature"),
            co_signer=it.value.get("coSigner"),
            ts=it.text("ts"),
            rung=it.text("rung"),
            index=it.index(),
            receipt=it.value["receipt"],
        )


@dataclass(frozen=True)
class MacReply:
    """A message authentication code that is on the ledger."""

    #: Standard base64.
    mac: str
    id: str
    kid: str
    signer_kid: str
    algorithm: str
    #: SHA-256 of the message, hex.
    digest: str
    ts: str
    rung: str
    index: int
    receipt: Json

    @staticmethod
    def read(value: object) -> MacReply:
        """Raises `ReplyError`."""
        it = Reader(value)
        return MacReply(
            mac=it.text("mac"),
            id=it.text("id"),
            kid=it.text("kid"),
            signer_kid=it.text("signer_kid"),
            algorithm=it.text("algorithm"),
            digest=it.text("digest"),
            ts=it.text("ts"),
            rung=it.text("rung"),
            index=it.index(),
            receipt=it.value["receipt"],
        )


@dataclass(frozen=True)
class EventReply:
    """An event that is on the ledger."""

    id: str
    event_type: str
    actor: str
    stream: str
    ts: str
    #: Lower-case hex; the next event of the stream names it.
    hash: str
    prev_hash: Optional[str]
    #: Position in its stream.
    seq: int
    #: ``None`` for readers who may not see payloads.
    payload: Optional[Json]
    index: int
    receipt: Json
    #: Its row, if its stream is set to the dialect of an existing writer, with the names of that writer's columns.
    row: Optional[Json] = None

    @staticmethod
    def read(value: object) -> EventReply:
        """Raises `ReplyError`."""
        it = Reader(value)
        return EventReply(
            id=it.text("id"),
            event_type=it.text("eventType"),
            actor=it.text("actor"),
            stream=it.text("stream"),
            ts=it.text("ts"),
            hash=it.text("hash"),
            prev_hash=it.optional("prevHash"),
            seq=it.number("seq"),
            payload=it.value.get("payload"),
            index=it.index(),
            receipt=it.value["receipt"],
            row=it.value.get("row"),
        )


@dataclass(frozen=True)
class VerifyReply:
    """The service's opinion of a signature."""

    valid: bool
    kid: str
    key_state: str

    @staticmethod
    def read(value: object) -> VerifyReply:
        """Raises `ReplyError`."""
        it = Reader(value)
        return VerifyReply(it.value.get("valid") is True, it.text("kid"), it.text("keyState"))


@dataclass(frozen=True)
class StreamPage:
    """A page of a stream."""

    items: List[EventReply]
    #: ``start`` of the next page; ``None`` at the end.
    next: Optional[int]

    @staticmethod
    def read(value: object) -> StreamPage:
        """Raises `ReplyError`."""
        it = Reader(value)
        following = None if it.value.get("next") is None else it.number("next")
        return StreamPage([EventReply.read(item) for item in items_of(value)], following)


@dataclass(frozen=True)
class Pending:
    """A signature that waits for people's approval."""

    id: str
    status: str
    expires_at: str
    approvals: int
    required: int
    #: Once it was made.
    result: Optional[SignReply]

    @staticmethod
    def read(value: object) -> Pending:
        """Raises `ReplyError`."""
        it = Reader(value)
        result = it.value.get("result")
        counts = (it.number("approvals"), it.number("required"))
        made = None if result is None else SignReply.read(result)
        return Pending(it.text("id"), it.text("status"), it.text("expiresAt"), *counts, made)


def problem_of(value: Mapping[str, Any], status: int, request_id: Optional[str]) -> Problem:
    """A problem's members."""

    def text(name: str) -> Optional[str]:
        found = value.get(name)
        return found if isinstance(found, str) else None

    stated = value.get("status")
    known = stated if type(stated) is int else status
    return Problem(
        known, text("code") or "unexpected-reply", text("title") or "", text("detail"), text("requestId") or request_id
    )


#: What became of one item of a batch.
SignItem = Union[SignReply, Problem]
EventItem = Union[EventReply, Problem]


def items_of(value: object) -> List[Any]:
    """The list a batch or a page is. Raises `ReplyError`."""
    items = Reader(value).value.get("items")
    if not isinstance(items, list):
        raise ReplyError("unreadable reply: no items")
    return items


def sign_items(value: object) -> List[SignItem]:
    """Reads a batch of signatures and problems."""
    return [problem_of(item, 0, None) if "code" in item else SignReply.read(item) for item in items_of(value)]


def event_items(value: object) -> List[EventItem]:
    """Reads a batch of events and problems."""
    return [problem_of(item, 0, None) if "code" in item else EventReply.read(item) for item in items_of(value)]
