"""The whole package against a running service. Prints a line for each check; exit code 1 if one failed.

CHANCERY_URL, CHANCERY_CA, CHANCERY_CERT, CHANCERY_KEY, CHANCERY_SIGNERS (files) and CHANCERY_KID name the service, us,
the registry and a key that we may use. CHANCERY_MORE_KIDS (with commas), CHANCERY_ANCHOR_KID, CHANCERY_MAC_KID,
CHANCERY_CO_SIGNED_KID and CHANCERY_CHAIN (a stream) add checks. The principal may sign, make MACs, append events, and
read its own stream.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import os
import secrets
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Optional, Tuple, Type, TypeVar
from urllib.parse import urlsplit

from chancery_client import (
    ChanceryClient,
    ChanceryError,
    DeadlineError,
    EventReply,
    EventRequest,
    MacRequest,
    Options,
    Problem,
    Proven,
    ReceiptError,
    RefusedError,
    SignersRegistry,
    SignReply,
    SignRequest,
    TlsError,
    UnavailableError,
    verify_receipt,
)
from cutting_proxy import CuttingProxy

E = TypeVar("E", bound=ChanceryError)


def variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SystemExit(f"{name} is not set")
    return value


OPTIONS = Options(
    url=variable("CHANCERY_URL"),
    ca_file=variable("CHANCERY_CA"),
    certificate_file=variable("CHANCERY_CERT"),
    key_file=variable("CHANCERY_KEY"),
)
REGISTRY = SignersRegistry.from_file(variable("CHANCERY_SIGNERS"))
KID = variable("CHANCERY_KID")
KIDS = [KID, *filter(None, os.environ.get("CHANCERY_MORE_KIDS", "").split(","))]
CLIENT = ChanceryClient(OPTIONS)
HOST, PORT = urlsplit(OPTIONS.url).hostname or "", urlsplit(OPTIONS.url).port or 8443


def check(condition: object, what: object = "") -> None:
    if not condition:
        raise AssertionError(what)


def equal(left: object, right: object) -> None:
    check(left == right, f"{left!r} is not {right!r}")


def request(kid: str, **more: Any) -> SignRequest:
    """A digest nobody signed before, as the key's algorithm takes it."""
    algorithm = next((one.algorithm for one in REGISTRY.signers.values() if one.kid == kid), "")
    hashed = algorithm[-6:] if algorithm[-6:] in ("sha384", "sha512") else "sha256"
    return SignRequest(kid, hashlib.new(hashed, secrets.token_bytes(32)).hexdigest(), hashed, **more)


def raised(kind: Type[E], call: Callable[[], object]) -> E:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def entries_with(stream: str, text: str) -> int:
    """How many entries of the stream hold this text."""
    count, start = 0, 0  # type: int, Optional[int]
    while start is not None:
        page = CLIENT.stream(stream, start).value
        count += sum(text in json.dumps(item.payload) for item in page.items)
        start = page.next
    return count


def refuses_damage(proven: Proven, asked: SignRequest) -> None:
    changes: List[Callable[[Dict[str, Any]], object]] = [
        lambda it: it.update(index=it["index"] - 1),
        lambda it: it["inclusionProof"].pop(),
        lambda it: it.update(checkpoint=it["checkpoint"].replace(f"\n{it['treeSize']}\n", "\n99999\n")),
        lambda it: it["event"]["payload"].update(digest="00" * 32),
    ]
    for change in changes:
        damaged = copy.deepcopy(json.loads(proven.receipt))
        change(damaged)
        raised(ReceiptError, lambda: verify_receipt(json.dumps(damaged), REGISTRY, asked))
    for other in (dataclasses.replace(asked, digest="00" * 32), dataclasses.replace(asked, kid="another")):
        raised(ReceiptError, lambda: verify_receipt(proven.receipt, REGISTRY, other))


def health_needs_no_certificate() -> None:
    with ChanceryClient(dataclasses.replace(OPTIONS, certificate_file=None, key_file=None)) as nobody:
        nobody.health()
        error = raised(RefusedError, lambda: nobody.sign(request(KID)))
    equal((error.status, error.code, error.retryable), (401, "client-certificate-required", False))
    check(error.request_id and error.idempotency_key)


def signs_and_proves(kid: str) -> None:
    asked = request(kid, purpose="test", metadata={"order": 17, "é": [1.5, None]})
    reply = CLIENT.sign(asked).value
    proven = CLIENT.prove(asked, reply, REGISTRY)
    equal(proven.proof.signature, reply.signature)
    check(reply.signer_kid in proven.proof.signers)
    refuses_damage(proven, asked)
    signature = reply.signature or ""
    check(CLIENT.verify(asked, signature).value.valid)
    check(not CLIENT.verify(request(kid), signature).value.valid)


def a_batch_has_a_signature_or_a_problem_for_each() -> None:
    requests = [request(KID), request("nobody-s-key"), request(KID)]
    items = CLIENT.sign_batch(requests).value
    check(isinstance(items[1], Problem) and items[1].status in (403, 404), items[1])
    for at in (0, 2):
        item = items[at]
        assert isinstance(item, SignReply)
        CLIENT.prove(requests[at], item, REGISTRY)


def an_event_is_appended_and_proven() -> None:
    event = EventRequest("order.paid", {"order": secrets.token_hex(8), "total": 12.5}, metadata={"a": 1})
    reply = CLIENT.append(event).value
    equal(CLIENT.prove(event, reply, REGISTRY).proof.event["hash"], reply.hash)
    other = dataclasses.replace(event, payload={"order": "another"})
    raised(ReceiptError, lambda: CLIENT.prove(other, reply, REGISTRY))
    equal(CLIENT.event(reply.id).value.hash, reply.hash)


def a_batch_of_events_is_appended_in_order() -> None:
    events = [EventRequest("order.paid", {"order": order}) for order in (1, 2, 3)]
    items = CLIENT.append_batch([*events, EventRequest("signer.activated", {})]).value
    appended = [item for item in items if isinstance(item, EventReply)]
    equal((len(appended), isinstance(items[3], Problem)), (3, True))
    equal(appended[1].prev_hash, appended[0].hash)


def a_repeated_call_gets_the_same_bytes() -> None:
    asked, key = request(KID), f"again-{secrets.token_hex(8)}"
    equal(CLIENT.sign(asked, idempotency_key=key).body, CLIENT.sign(asked, idempotency_key=key).body)
    error = raised(RefusedError, lambda: CLIENT.sign(request(KID), idempotency_key=key))
    equal((error.status, error.code, error.idempotency_key), (409, "idempotency-conflict", key))


def a_key_that_is_not_ours_is_a_typed_refusal() -> None:
    error = raised(RefusedError, lambda: CLIENT.sign(request("nobody-s-key")))
    check(error.status in (403, 404) and error.code in ("unknown-kid", "kid-not-granted"), error)


def through(proxy: CuttingProxy, **more: Any) -> ChanceryClient:
    return ChanceryClient(dataclasses.replace(OPTIONS, url=f"https://{HOST}:{proxy.port}", **more))


def after_a_lost_reply_there_is_one_entry() -> None:
    proxy = CuttingProxy(HOST, PORT)
    with through(proxy) as client:
        client.health()
        client.health()
        # The connection was reused, or a lost reply would not be one of a request that got through.
        equal(proxy.accepted, 1)
        asked, key = request(KID), f"lost-{secrets.token_hex(8)}"
        proxy.next = "reply"
        answer = client.sign(asked, idempotency_key=key)
        equal(proxy.cuts, 1)
        equal(CLIENT.sign(asked, idempotency_key=key).body, answer.body)
        proof = CLIENT.prove(asked, answer.value, REGISTRY).proof
        equal(entries_with(proof.event["stream"], asked.digest), 1)
        order = secrets.token_hex(8)
        proxy.next = "reply"
        appended = client.append(EventRequest("order.paid", {"order": order})).value
        equal((proxy.cuts, entries_with(appended.stream, order)), (2, 1))
    with through(proxy) as client:
        proxy.next = "accept"
        client.sign(request(KID))
        equal(proxy.cuts, 3)
    proxy.stop()


def many_calls_at_once_share_connections() -> None:
    proxy = CuttingProxy(HOST, PORT)
    with through(proxy) as client, ThreadPoolExecutor(16) as threads:
        for _ in range(2):
            requests = [request(KID) for _ in range(150)]
            replies = threads.map(lambda one: client.sign(one).value, requests)
            equal([reply.digest for reply in replies], [one.digest for one in requests])
        check(proxy.accepted <= 16, f"{proxy.accepted} connections for 300 calls of 16 threads")
        before = proxy.accepted
        proxy.cut_all()
        client.sign(request(KID))
        # After a restart one new connection is enough.
        equal(proxy.accepted, before + 1)
    proxy.stop()


def a_service_that_says_nothing_is_given_up() -> None:
    proxy = CuttingProxy(HOST, PORT)
    with through(proxy, call_timeout_s=0.3) as client:
        client.health()
        proxy.next = "hang"
        error = raised(DeadlineError, lambda: client.sign(request(KID)))
        check(error.retryable and error.idempotency_key)
    proxy.stop()


def nobody_listening_and_a_foreign_authority_are_told_apart() -> None:
    proxy = CuttingProxy(HOST, PORT)
    proxy.stop()
    check(raised(UnavailableError, lambda: through(proxy, attempts_max=2).health()).retryable)
    foreign = ChanceryClient(dataclasses.replace(OPTIONS, ca_file=OPTIONS.certificate_file or ""))
    check(not raised(TlsError, foreign.health).retryable)


def an_anchored_digests_receipt_is_its_signature() -> None:
    asked = request(variable("CHANCERY_ANCHOR_KID"), anchored=True)
    reply = CLIENT.sign(asked).value
    equal((CLIENT.prove(asked, reply, REGISTRY).proof.anchored, reply.signature), (True, None))


def a_mac_is_made_checked_and_recorded() -> None:
    asked = MacRequest(variable("CHANCERY_MAC_KID"), secrets.token_bytes(20))
    reply = CLIENT.mac(asked).value
    equal(CLIENT.prove(asked, reply, REGISTRY).proof.signature, reply.mac)
    other = dataclasses.replace(asked, message=b"another")
    equal((CLIENT.verify_mac(asked, reply.mac), CLIENT.verify_mac(other, reply.mac)), (True, False))


def a_co_signature_verifies_or_is_told_to_be_beyond_this_runtime() -> None:
    asked = request(variable("CHANCERY_CO_SIGNED_KID"))
    reply = CLIENT.sign(asked).value
    proof = CLIENT.prove(asked, reply, REGISTRY, report_unsupported_co_signer=True).proof
    equal([*proof.signers, *proof.unverified], [reply.signer_kid, (reply.co_signer or {})["signer_kid"]])
    if proof.unverified:
        error = raised(ReceiptError, lambda: CLIENT.prove(asked, reply, REGISTRY))
        equal(error.fault, "unsupported")
    else:
        CLIENT.prove(asked, reply, REGISTRY)


def an_event_of_a_chain_has_its_row_and_is_proven() -> None:
    event = EventRequest("order.paid", {"10": "ten", "9": "nine"}, stream=os.environ["CHANCERY_CHAIN"])
    reply = CLIENT.append(event).value
    assert reply.row is not None
    equal(CLIENT.prove(event, reply, REGISTRY).proof.event["chain"]["hash"], reply.row["hash"])


def checks() -> List[Tuple[str, Callable[[], None]]]:
    several = [
        health_needs_no_certificate,
        a_batch_has_a_signature_or_a_problem_for_each,
        an_event_is_appended_and_proven,
        a_batch_of_events_is_appended_in_order,
        a_repeated_call_gets_the_same_bytes,
        a_key_that_is_not_ours_is_a_typed_refusal,
        after_a_lost_reply_there_is_one_entry,
        many_calls_at_once_share_connections,
        a_service_that_says_nothing_is_given_up,
        nobody_listening_and_a_foreign_authority_are_told_apart,
    ]
    if os.environ.get("CHANCERY_ANCHOR_KID"):
        several.append(an_anchored_digests_receipt_is_its_signature)
    if os.environ.get("CHANCERY_MAC_KID"):
        several.append(a_mac_is_made_checked_and_recorded)
    if os.environ.get("CHANCERY_CO_SIGNED_KID"):
        several.append(a_co_signature_verifies_or_is_told_to_be_beyond_this_runtime)
    if os.environ.get("CHANCERY_CHAIN"):
        several.append(an_event_of_a_chain_has_its_row_and_is_proven)
    of_keys = [(f"{kid} signs, and its receipt proves it here", lambda kid=kid: signs_and_proves(kid)) for kid in KIDS]
    return [*of_keys, *((one.__name__.replace("_", " "), one) for one in several)]


def main() -> int:
    failures, every = 0, checks()
    for name, run in every:
        try:
            run()
            print(f"ok: {name}")
        except Exception:
            failures += 1
            print(f"failed: {name}: {traceback.format_exc()}")
    CLIENT.close()
    print(f"{len(every) - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
