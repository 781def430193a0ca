"""One method per call of the service."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable, List, Optional, Sequence, Type, TypeVar, Union
from urllib.parse import quote

from .canonical import canonical, parse
from .errors import ChanceryError, InvalidRequestError, PendingError, Problem, ReceiptError, ReplyError
from .log import sha256
from .options import Options
from .receipt import Asked, Proof, verify_receipt
from .registry import SignersRegistry
from .replies import (
    Answer,
    EventItem,
    EventReply,
    MacReply,
    Pending,
    SignItem,
    SignReply,
    StreamPage,
    VerifyReply,
    event_items,
    sign_items,
)
from .requests import EventRequest, Json, MacRequest, SignRequest
from .transport import Call, Transport, random_idempotency_key

T = TypeVar("T")
_KEY = re.compile(r"[!#-\[\]-~]{1,128}")


@dataclass(frozen=True)
class Proven:
    """A proof, beside the receipt it was read from: keep the receipt."""

    proof: Proof
    #: The receipt's text; `verify_receipt` and ``chancery-verify receipt`` read it.
    receipt: str


class ChanceryClient:
    """A client of one service. Any number of threads may share one; they share its connections."""

    def __init__(self, options: Options) -> None:
        """Reads certificates and key; connects when the first call is made. Raises `ConfigurationError`."""
        self._transport = Transport(options)

    def sign(self, request: SignRequest, *, idempotency_key: Optional[str] = None) -> Answer[SignReply]:
        """``POST /v1/sign``. Under the same key, the same request gets the same signature, for ever."""
        fits = lambda reply: _answers_sign(reply, request)
        return self._post("/v1/sign", request.body(), SignReply.read, fits, idempotency_key)

    def sign_batch(
        self, requests: Sequence[SignRequest], *, idempotency_key: Optional[str] = None
    ) -> Answer[List[SignItem]]:
        """``POST /v1/sign/batch``: up to 1,000 requests, a signature or a `Problem` for each, in order."""
        body = {"items": [request.body() for request in requests]}
        fits = lambda items: _all_fit(items, requests, _answers_sign)
        return self._post("/v1/sign/batch", body, sign_items, fits, idempotency_key)

    def verify(self, request: SignRequest, signature: str) -> Answer[VerifyReply]:
        """``POST /v1/verify``: the service's opinion. `verify_receipt` asks nobody."""
        members = {"kid": request.kid, "digest": request.digest, "digestAlgorithm": request.digest_algorithm}
        body = _encoded({**members, "signature": signature})
        return self._send(Call("POST", "/v1/verify", body), VerifyReply.read)

    def mac(self, request: MacRequest, *, idempotency_key: Optional[str] = None) -> Answer[MacReply]:
        """``POST /v1/mac``."""
        digest = sha256(request.message).hex()
        fits = lambda reply: reply.kid == request.kid and reply.digest == digest
        return self._post("/v1/mac", _mac_body(request), MacReply.read, fits, idempotency_key)

    def verify_mac(self, request: MacRequest, mac: str) -> bool:
        """``POST /v1/mac/verify``: only the service can. Each is a use of the key: a lost one is not repeated."""
        body = _encoded({**_mac_body(request), "mac": mac})
        answer = self._send(Call("POST", "/v1/mac/verify", body, once=True), lambda value: value)
        valid = answer.value.get("valid")
        if not isinstance(valid, bool):
            raise ReplyError("unreadable reply: no verdict")
        return valid

    def append(self, event: EventRequest, *, idempotency_key: Optional[str] = None) -> Answer[EventReply]:
        """``POST /v1/events``. Under the same key, the same event is appended once."""
        fits = lambda reply: _answers_event(reply, event)
        return self._post("/v1/events", event.body(), EventReply.read, fits, idempotency_key)

    def append_batch(
        self, events: Sequence[EventRequest], *, idempotency_key: Optional[str] = None
    ) -> Answer[List[EventItem]]:
        """``POST /v1/events/batch``: an event or a `Problem` for each, in order."""
        body = {"items": [event.body() for event in events]}
        fits = lambda items: _all_fit(items, events, _answers_event)
        return self._post("/v1/events/batch", body, event_items, fits, idempotency_key)

    def receipt(self, index: int) -> str:
        """``GET /v1/receipts/{index}``: its text, once a checkpoint covers the entry. Proves nothing unverified."""
        return self._transport.call(Call("GET", f"/v1/receipts/{index}")).body

    def prove(
        self,
        asked: Asked,
        answered: Union[SignReply, MacReply, EventReply],
        registry: SignersRegistry,
        *,
        report_unsupported_co_signer: bool = False,
    ) -> Proven:
        """Fetches the receipt of what was answered and verifies it locally against what was *asked*.

        See `verify_receipt`. Raises `ReceiptError` where the service's word and its proof differ.
        """
        whole = "inclusionProof" in answered.receipt
        receipt = canonical(answered.receipt) if whole else self.receipt(answered.index)
        proof = verify_receipt(receipt, registry, asked, report_unsupported_co_signer=report_unsupported_co_signer)
        same = (proof.index, proof.event["id"]) == (answered.index, answered.id)
        if isinstance(answered, EventReply):
            same = same and proof.event["hash"] == answered.hash
        else:
            same = same and proof.signature == (answered.mac if isinstance(answered, MacReply) else answered.signature)
        if not same:
            raise ReceiptError("another-request", "it proves another entry than the reply's")
        return Proven(proof, receipt)

    def event(self, id: str) -> Answer[EventReply]:
        """``GET /v1/events/{id}``: one entry, of any type."""
        return self._send(Call("GET", f"/v1/events/{quote(id, safe='')}"), EventReply.read)

    def stream(self, name: str, start: int = 0, limit: int = 100) -> Answer[StreamPage]:
        """``GET /v1/streams/{stream}``: a page of a stream's entries, from position ``start`` on."""
        path = f"/v1/streams/{quote(name, safe='')}?from={start}&limit={limit}"
        return self._send(Call("GET", path), StreamPage.read)

    def pending(self, id: str) -> Answer[Pending]:
        """``GET /v1/pending/{id}``: what became of a signature that waits for approval."""
        return self._send(Call("GET", f"/v1/pending/{quote(id, safe='')}"), Pending.read)

    def signers(self) -> str:
        """``GET /v1/signers.json``. Over this connection it is the service's word: pin a copy got another way."""
        return self._transport.call(Call("GET", "/v1/signers.json")).body

    def health(self) -> str:
        """``GET /health``: needs no certificate."""
        return self._transport.call(Call("GET", "/health")).body

    def close(self) -> None:
        """Closes idle connections."""
        self._transport.close()

    def __enter__(self) -> ChanceryClient:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _post(
        self, path: str, body: Json, read: Callable[[Json], T], fits: Callable[[T], bool], key: Optional[str]
    ) -> Answer[T]:
        key = random_idempotency_key() if key is None else key
        if _KEY.fullmatch(key) is None:
            raise InvalidRequestError("an Idempotency-Key is 1 to 128 printable ASCII characters")
        answer = self._send(Call("POST", path, _encoded(body), key), read)
        if not fits(answer.value):
            raise _under(key, ReplyError("it answers another request"))
        return answer

    def _send(self, call: Call, read: Callable[[Json], T]) -> Answer[T]:
        reply = self._transport.call(call)
        try:
            value = parse(reply.body)
            if not isinstance(value, dict):
                raise ReplyError("unreadable reply: not an object")
            if reply.status == 202:
                raise PendingError(Pending.read(value))
            return Answer(read(value), reply.body, reply.request_id, call.idempotency_key)
        except ValueError as error:
            raise _under(call.idempotency_key, ReplyError(f"unreadable reply: {error}")) from error
        except ChanceryError as error:
            raise _under(call.idempotency_key, error)


def _under(key: Optional[str], error: ChanceryError) -> ChanceryError:
    error.idempotency_key = key
    return error


def _encoded(body: Json) -> bytes:
    """Raises `InvalidRequestError` for what JSON cannot say."""
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"not JSON: {error}") from error


def _mac_body(request: MacRequest) -> Json:
    return {"kid": request.kid, "message": base64.b64encode(request.message).decode()}


def _answers_sign(reply: SignReply, request: SignRequest) -> bool:
    asked = (request.kid, request.digest, request.digest_algorithm, request.anchored)
    return (reply.kid, reply.digest, reply.digest_algorithm, reply.signature is None) == asked


def _answers_event(reply: EventReply, event: EventRequest) -> bool:
    named = event.id in (None, reply.id) and event.stream in (None, reply.stream)
    same = reply.event_type == event.event_type and reply.payload is not None
    return named and same and canonical(reply.payload) == canonical(event.body()["payload"])


def _all_fit(items: Sequence[Any], requests: Sequence[Any], fits: Callable[[Any, Any], bool]) -> bool:
    pairs = zip(items, requests)
    return len(items) == len(requests) and all(isinstance(item, Problem) or fits(item, one) for item, one in pairs)
