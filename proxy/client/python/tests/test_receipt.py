"""Receipts: every algorithm's is accepted, and every damage refused, by an honest service or one that lies."""

from __future__ import annotations

import hashlib
import unittest
from typing import Any, Dict, Union

from chancery_client import (
    ANYTHING,
    EventRequest,
    MacRequest,
    ReceiptError,
    RegistryError,
    SignersRegistry,
    SignRequest,
    verify_receipt,
)
from chancery_client.receipt import Anything, Asked
from ledger import MESSAGE, ORIGIN, Json, Ledger, damages, text

LEDGER = Ledger()
REGISTRY = SignersRegistry.parse(text(LEDGER.registry()))
DIGEST = hashlib.sha256(MESSAGE).hexdigest()


def asked(algorithm: str, **more: Any) -> SignRequest:
    pair = LEDGER.pairs[algorithm]
    values = {"kid": algorithm, "digest": pair.digest().hex(), "digest_algorithm": pair.hash, "purpose": "shipping"}
    return SignRequest(**{**values, "metadata": {"order": 17}, **more})


def lie(**changes: Any) -> Json:
    """A receipt right in all but what is changed: whoever holds the ledger's key can make it.

    Names that are members of an event change that, others its payload.
    """
    of_event = {"eventType", "id", "stream", "actor", "signer", "seq", "ts", "hash"}
    draft: Json = {name: value for name, value in changes.items() if name in of_event - {"signer"}}
    if "signer" in changes:
        draft["signer_kid"] = changes["signer"]
    payload = {**LEDGER.issued("ed25519"), **{n: v for n, v in changes.items() if n not in of_event}}
    draft["payload"] = {name: value for name, value in payload.items() if value is not None}
    return LEDGER.receipt(draft)


class Receipts(unittest.TestCase):
    def refused(self, receipt: Json, what: Union[Asked, Anything], fault: str, by: SignersRegistry = REGISTRY) -> None:
        with self.assertRaises(ReceiptError) as caught:
            verify_receipt(text(receipt), by, what)
        self.assertEqual(caught.exception.fault, fault, str(caught.exception))

    def test_every_algorithms_receipt_is_accepted_at_every_place(self) -> None:
        for algorithm in LEDGER.pairs:
            with self.subTest(algorithm):
                payload = LEDGER.issued(algorithm)
                what: Asked = asked(algorithm)
                if algorithm.startswith("hmac"):
                    del payload["metadata"], payload["purpose"]
                    what = MacRequest(algorithm, MESSAGE)
                proof = verify_receipt(text(LEDGER.receipt({"payload": payload})), REGISTRY, what)
                self.assertEqual((proof.origin, proof.index, proof.tree_size), (ORIGIN, 5, 11))
                self.assertEqual(proof.signature, payload["signature"])
                self.assertEqual(proof.signers, () if "hmac" in algorithm else (f"{algorithm}-v1",))
        payload = LEDGER.issued("ed25519")
        for size in (2, 3, 7, 8, 9, 33):
            for index in range(1, size):
                receipt = LEDGER.receipt({"payload": payload}, index, size)
                self.assertEqual(verify_receipt(text(receipt), REGISTRY, asked("ed25519")).index, index)

    def test_whatever_is_damaged_it_is_refused(self) -> None:
        good, count = lie(), 0
        for what, damaged in damages(good):
            count += 1
            with self.subTest(what), self.assertRaises(ReceiptError):
                verify_receipt(text(damaged), REGISTRY, asked("ed25519"))
        self.assertGreater(count, 150)
        whole = text(good)
        for other in (
            whole.replace('"index": 5', '"index": 5, "index": 5'),
            whole.replace('"seq": 3', '"seq": 9007199254740993'),
            whole.replace('"seq": 3', '"seq": NaN'),
            whole[:-1],
            whole + " x",
            "[" * 100_000,
        ):
            self.assertNotEqual(other, whole)
            with self.assertRaises(ReceiptError) as caught:
                verify_receipt(other, REGISTRY, ANYTHING)
            self.assertEqual(caught.exception.fault, "shape")

    def test_the_rung_is_the_services_word(self) -> None:
        proof = verify_receipt(text({**lie(), "rung": "archived"}), REGISTRY, asked("ed25519"))
        self.assertFalse(hasattr(proof, "rung"))

    def test_a_service_that_holds_the_ledgers_key_cannot_pass_off_something_else(self) -> None:
        other = {name: value for name, value in LEDGER.issued("ecdsa-p256-sha256").items() if name != "kid"}
        cases = {
            "signature": [
                lie(digest="00" * 32),
                lie(signature=LEDGER.issued("rsa-sha256")["signature"]),
                lie(signature=LEDGER.issued("ed25519")["signature"].rstrip("=")),
            ],
            "signer": [
                lie(**other),
                lie(signer_kid="nobody"),
                lie(algorithm="rsa-sha256"),
                lie(operation="mac"),
                lie(signer="ed25519-v1"),
            ],
            "event": [
                lie(more="x"),
                lie(digestAlgorithm="sha512"),
                lie(digestAlgorithm="md5"),
                lie(hash="00" * 32),
                lie(id="order-1"),
                lie(stream="chancery"),
                lie(stream="chancery/governance"),
                lie(actor="chancery"),
                lie(seq=0),
                lie(ts="2026-02-30T00:00:00.000Z"),
                lie(ts="2026-02-20T23:59:60.000Z"),
                lie(ts="1969-12-31T23:59:59.999Z"),
                lie(eventType="ledger.note"),
            ],
            "another-request": [
                lie(eventType="order.paid"),
                lie(eventType="signing.signature.failed"),
                lie(purpose="returns"),
                lie(metadata=None),
            ],
        }
        for fault, receipts in cases.items():
            for number, receipt in enumerate(receipts):
                with self.subTest(f"{fault} {number}"):
                    self.refused(receipt, asked("ed25519"), fault)
        for what in (
            asked("ed25519", kid="rsa-sha256"),
            asked("ed25519", digest="00" * 32),
            asked("ed25519", anchored=True),
        ):
            self.refused(lie(), what, "another-request")
        mac = {**LEDGER.issued("hmac-sha256"), "digestAlgorithm": "sha512", "digest": "00" * 64}
        self.refused(LEDGER.receipt({"payload": mac}), ANYTHING, "signature")
        self.refused(lie(), MacRequest("ed25519", MESSAGE), "another-request")

    def test_a_key_counts_only_where_the_registry_says_it_was_active(self) -> None:
        def changed(kid: str, **change: Any) -> SignersRegistry:
            file = LEDGER.registry()
            signer = next(one for one in file["signers"] if one["kid"] == kid)
            signer.update(change)
            file["signers"] = [{n: v for n, v in one.items() if v is not None} for one in file["signers"]]
            return SignersRegistry.parse(text(file))

        for change in ({"activatedIndex": 5}, {"retiredIndex": 6}, {"compromisedSince": 6}):
            verify_receipt(text(lie()), changed("ed25519", **change), asked("ed25519"))
        refused: list[Dict[str, Any]] = [{"activatedIndex": 6}, {"activatedIndex": None}, {"retiredIndex": 5}]
        for one in [*refused, {"compromisedSince": 5}]:
            self.refused(lie(), asked("ed25519"), "signer", changed("ed25519", **one))
        self.refused(lie(), asked("ed25519"), "signer", changed("ledger", retiredIndex=4))
        # Of the ledger's own key it is the checkpoint's last entry that matters.
        last = lie()["treeSize"] - 1
        for good in ({"retiredIndex": last + 1}, {"compromisedSince": last + 1, "state": "compromised"}):
            verify_receipt(text(lie()), changed("ledger", **good), asked("ed25519"))
        for bad in ({"retiredIndex": last}, {"compromisedSince": last}):
            self.refused(lie(), asked("ed25519"), "checkpoint", changed("ledger", **bad))
        with self.assertRaises(RegistryError):
            changed("ed25519", state="compromised")

    def test_an_anchored_digests_receipt_is_its_signature(self) -> None:
        members = ("kid", "digest", "digestAlgorithm", "policy", "requestId")
        payload = {name: LEDGER.issued("ed25519")[name] for name in members}
        receipt = LEDGER.receipt({"eventType": "signing.signature.anchored", "payload": payload})
        proof = verify_receipt(text(receipt), REGISTRY, SignRequest("ed25519", DIGEST, anchored=True))
        self.assertEqual((proof.anchored, proof.signature, proof.signers), (True, None, ()))
        self.refused(receipt, SignRequest("ed25519", DIGEST), "another-request")
        nobody = LEDGER.receipt({"eventType": "signing.signature.anchored", "payload": {**payload, "kid": "nobody"}})
        self.refused(nobody, ANYTHING, "signer")

    def test_an_event_is_the_one_that_was_appended(self) -> None:
        payload = {"total": 12.5, "é": ["x", None]}
        event = EventRequest("order.paid", payload, stream="orders/eu")
        draft: Json = {"eventType": "order.paid", "payload": payload, "stream": "orders/eu"}
        self.assertIsNone(verify_receipt(text(LEDGER.receipt(draft)), REGISTRY, event).signature)
        others: list[Json] = [{"payload": {"total": 12}}, {"eventType": "order.lost"}, {"stream": "orders/us"}]
        for other in [*others, {"metadata": {"a": 1}}, {"manifestSignatureId": "m"}, {"id": "mine"}]:
            self.refused(LEDGER.receipt({**draft, **other}), event, "another-request")
        named = EventRequest("order.paid", payload, id="mine", actor="shop", ts="2026-01-01T00:00:00.000Z")
        mine = {**draft, "id": "mine", "actor": "shop", "ts": "2026-01-01T00:00:00.000Z"}
        verify_receipt(text(LEDGER.receipt(mine)), REGISTRY, named)
        self.refused(LEDGER.receipt({**mine, "actor": "other"}), named, "another-request")

    def test_a_co_signature_verifies_or_is_named(self) -> None:
        members = ("algorithm", "kid", "signature", "signer_kid")
        second = {name: LEDGER.issued("ecdsa-p256-sha256")[name] for name in members}
        proof = verify_receipt(text(lie(coSigner=second)), REGISTRY, asked("ed25519"))
        self.assertEqual(proof.signers, ("ed25519-v1", "ecdsa-p256-sha256-v1"))
        wrong = {**second, "signature": LEDGER.issued("rsa-sha256")["signature"]}
        self.refused(lie(coSigner=wrong), ANYTHING, "signature")

        file = LEDGER.registry()
        ph = next(one for one in file["signers"] if one["kid"] == "rsa-sha512")
        ph.update(algorithm="ed25519ph", public_key_pem=LEDGER.pairs["ed25519"].pem)
        registry = SignersRegistry.parse(text(file))
        co_signer = {**second, "algorithm": "ed25519ph", "kid": "rsa-sha512", "signer_kid": "rsa-sha512-v1"}
        payload = {**LEDGER.issued("ed25519", "sha512"), "coSigner": co_signer}
        receipt = LEDGER.receipt({"payload": payload})
        self.refused(receipt, ANYTHING, "unsupported", registry)
        proof = verify_receipt(text(receipt), registry, ANYTHING, report_unsupported_co_signer=True)
        self.assertEqual((proof.signers, proof.unverified), (("ed25519-v1",), ("rsa-sha512-v1",)))


if __name__ == "__main__":
    unittest.main()
