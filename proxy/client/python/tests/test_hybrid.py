"""Checkpoints that the ledger signed by Ed25519 and by ML-DSA-44: with a package that has the algorithm a false second
signature is refused; without, it is told that nobody looked."""

from __future__ import annotations

import base64
import hashlib
import json
import unittest
from typing import Any, Dict, List, Tuple
from unittest import mock

from cryptography.exceptions import UnsupportedAlgorithm

from chancery_client import ANYTHING, Proof, ReceiptError, RegistryError, SignersRegistry, verify_receipt
from chancery_client.log import Head, cosigned_message, parse_vkey, verify_checkpoint
from chancery_client.signatures import MlDsa44Key, read_public_key
from ledger import ORIGIN, Json, Ledger, MlDsaKey, ml_dsa, note_line, text

LEDGER, SECOND = Ledger(), MlDsaKey()


def file(second: List[str], **more: Any) -> str:
    """The registry with these vkeys after the Ed25519 one, and other members of ``ledger``."""
    whole = LEDGER.registry()
    whole["ledger"]["vkeys"] += second
    whole["ledger"].update(more)
    return text(whole)


REGISTRY = SignersRegistry.parse(file([SECOND.vkey]))
GOOD: Json = LEDGER.receipt({"payload": LEDGER.issued("ed25519")})
TEXT = GOOD["checkpoint"].partition("\n\n")[0] + "\n"
FIRST = GOOD["checkpoint"][len(TEXT) + 1 :]
BOTH = (("ed25519", "ml-dsa-44"), ()) if MlDsaKey.IS_KNOWN else (("ed25519",), ("ml-dsa-44",))
LOADING = "cryptography.hazmat.primitives.serialization.load_der_public_key"
ALONE: Tuple[Tuple[str, ...], Tuple[str, ...]] = (("ed25519",), ())


def proof(lines: str, by: SignersRegistry = REGISTRY) -> Proof:
    return verify_receipt(text({**GOOD, "checkpoint": f"{TEXT}\n{lines}"}), by, ANYTHING)


def told(lines: str, by: SignersRegistry = REGISTRY) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    found = proof(lines, by)
    return found.checkpoint_verified, found.checkpoint_unverified


def pem(raw: bytes) -> str:
    """SPKI of a key for ML-DSA-44."""
    spki = base64.b64encode(bytes.fromhex("30820532300b06096086480165030403110382052100") + raw).decode()
    body = "\n".join(spki[at : at + 64] for at in range(0, len(spki), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


class Hybrid(unittest.TestCase):
    def refused(self, lines: str, what: str, by: SignersRegistry = REGISTRY) -> None:
        with self.subTest(what), self.assertRaises(ReceiptError) as caught:
            proof(lines, by)
        self.assertEqual(caught.exception.fault, "checkpoint", what)

    def test_the_second_signature_is_verified_or_named(self) -> None:
        self.assertEqual(told(FIRST + SECOND.line(TEXT)), BOTH)
        self.assertEqual(told(SECOND.line(TEXT) + FIRST), BOTH)
        self.assertEqual(told(FIRST), ALONE)

    def test_strangers_are_passed_over_whatever_they_sign_by(self) -> None:
        for stranger in (MlDsaKey(), MlDsaKey("witness.example/w")):
            self.assertEqual(told(FIRST + stranger.line(TEXT)), ALONE)
            self.assertEqual(told(stranger.line(TEXT) + FIRST + SECOND.line(TEXT)), BOTH)
        self.assertEqual(told(FIRST + SECOND.line(TEXT), SignersRegistry.parse(file([]))), ALONE)

    def test_a_false_second_signature_refuses_the_checkpoint(self) -> None:
        material = SECOND.material(TEXT)

        def flipped(at: int) -> str:
            return note_line(ORIGIN, material[:at] + bytes([material[at] ^ 1]) + material[at + 1 :])

        for what, line in {
            "another time": flipped(11),
            "another beginning": flipped(12),
            "another end": flipped(len(material) - 1),
            "of another size": SECOND.line(TEXT.replace("\n11\n", "\n12\n")),
            "by another key": note_line(ORIGIN, SECOND.id + MlDsaKey().material(TEXT)[4:]),
        }.items():
            if MlDsaKey.IS_KNOWN:
                self.refused(FIRST + line, what)
                self.refused(line + FIRST, f"{what}, first")
            else:
                self.assertEqual(told(FIRST + line), BOTH, what)

    def test_what_its_shape_tells_is_refused_by_every_version(self) -> None:
        material = SECOND.material(TEXT)
        for what, lines in {
            "by ML-DSA-44 alone": SECOND.line(TEXT),
            "twice": FIRST + SECOND.line(TEXT) + SECOND.line(TEXT),
            "cut short": FIRST + note_line(ORIGIN, material[:-1]),
            "longer": FIRST + note_line(ORIGIN, material + b"\0"),
            "without a time": FIRST + note_line(ORIGIN, SECOND.id + material[12:]),
            "hardly anything": FIRST + note_line(ORIGIN, material[:5]),
            "beyond all times": FIRST + note_line(ORIGIN, SECOND.material(TEXT, 1 << 63)),
            "false by Ed25519": LEDGER.line(TEXT.replace("\n11\n", "\n12\n")) + SECOND.line(TEXT),
        }.items():
            self.refused(lines, what)

    def test_a_package_without_the_algorithm_says_so_and_nothing_else_changes(self) -> None:
        for error in (UnsupportedAlgorithm("no such"), ValueError("none at all")):
            with mock.patch(LOADING, side_effect=error):
                blind = SignersRegistry.parse(file([SECOND.vkey]))
            self.assertEqual(told(FIRST + SECOND.line(TEXT), blind), (("ed25519",), ("ml-dsa-44",)))
            for lines in (SECOND.line(TEXT), FIRST + note_line(ORIGIN, SECOND.material(TEXT)[:-1])):
                with self.assertRaises(ValueError):
                    verify_checkpoint(f"{TEXT}\n{lines}", ORIGIN, blind.note_keys)

    def test_a_registry_names_keys_of_both_kinds_one_of_ed25519_at_least(self) -> None:
        both = "".join(f"log {vkey}\n" for vkey in [*LEDGER.registry()["ledger"]["vkeys"], SECOND.vkey]) + "quorum none\n"
        self.assertEqual(len(SignersRegistry.parse(file([SECOND.vkey], policy=both)).note_keys), 2)
        self.assertTrue(REGISTRY.is_ledger_key("ledger-v1"))
        for what, whole in {
            "no Ed25519 key": file([], vkeys=[SECOND.vkey]),
            "another name": file([MlDsaKey("log.example/other").vkey]),
            "another key id": file([SECOND.vkey.replace(SECOND.id.hex(), "00000000", 1)]),
            "cut short": file([SECOND.vkey[:-4]]),
            "a policy without the second": file([SECOND.vkey], policy=f"log {both.split()[1]}\nquorum none\n"),
            "an unknown member": file([SECOND.vkey], quorum="any"),
        }.items():
            with self.subTest(what), self.assertRaises(RegistryError):
                SignersRegistry.parse(whole)
        # A cosigner's type, with its key id right.
        material = b"\4" + SECOND.raw[:32]
        key_id = hashlib.sha256(ORIGIN.encode() + b"\n" + material).hexdigest()[:8]
        self.assertIsNone(parse_vkey(f"{ORIGIN}+{key_id}+{base64.b64encode(material).decode()}"))

    def test_a_second_signature_is_due_while_its_key_is_active_at_the_last_entry(self) -> None:
        def signed_by(key: MlDsaKey, **places: int) -> Json:
            record = {"signer_kid": f"s-{key.id.hex()}", "kid": "second", "algorithm": "ml-dsa-44", "purpose": "test"}
            return {**record, "public_key_pem": pem(key.raw), "state": "active", "description": "", **places}

        def by(*signers: Json, vkeys: Tuple[str, ...] = (SECOND.vkey,)) -> SignersRegistry:
            whole = json.loads(file(list(vkeys)))
            whole["signers"] += signers
            return SignersRegistry.parse(text(whole))

        # Of eleven entries the last is 10.
        due: List[Dict[str, int]] = [{"activatedIndex": 10}, {"activatedIndex": 0, "retiredIndex": 11}]
        ended = [{"retiredIndex": 10}, {"compromisedSince": 10}, {"retiredIndex": 11, "compromisedSince": 3}]
        for places in [*due, {"activatedIndex": 3, "compromisedSince": 11}]:
            with self.subTest(places):
                self.refused(FIRST, str(places), by(signed_by(SECOND, **places)))
                self.assertEqual(told(FIRST + SECOND.line(TEXT), by(signed_by(SECOND, **places))), BOTH)
        for places in [{}, {"activatedIndex": 11}, *({"activatedIndex": 0, **end} for end in ended)]:
            with self.subTest(places):
                self.assertEqual(told(FIRST, by(signed_by(SECOND, **places))), ALONE)
        # One of those that are due will do, one that is not will not.
        third = MlDsaKey()
        active = signed_by(SECOND, activatedIndex=0), signed_by(third, activatedIndex=4)
        later = signed_by(SECOND, activatedIndex=0), signed_by(third, activatedIndex=11)
        both = (SECOND.vkey, third.vkey)
        self.assertEqual(told(FIRST + third.line(TEXT), by(*active, vkeys=both)), BOTH)
        self.refused(FIRST, "neither", by(*active, vkeys=both))
        self.refused(FIRST + third.line(TEXT), "not active yet", by(*later, vkeys=both))
        # A key that signs no checkpoints asks for none.
        self.assertEqual(told(FIRST, by(signed_by(third, activatedIndex=0))), ALONE)

    def test_the_published_key_and_message_are_these(self) -> None:
        """Of seed 0x44, over the checkpoint that C2SP's other vectors are of."""

        def sha256(raw: bytes) -> str:
            return hashlib.sha256(raw).hexdigest()

        name, time = "ledger.example/sign-log/1", (1679315147).to_bytes(8, "big")
        root = base64.b64decode("sgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=")
        message = cosigned_message(name, time, Head(name, 3, root))
        self.assertEqual(sha256(message), "e26078c83b93254bd44c7ba777465fc8975421ed3428f13a3eadfe5be4be03b9")
        if not MlDsaKey.IS_KNOWN:
            return
        raw = ml_dsa().MLDSA44PrivateKey.from_seed_bytes(b"\x44" * 32).public_key().public_bytes_raw()
        self.assertEqual(sha256(raw), "a697433bb609d9b503f4c8ae6382c38931d326bf5c2f8f03a332d30fac39048c")
        vkey = f"{name}+1bc8a740+{base64.b64encode(bytes([6]) + raw).decode()}"
        expected = "563668c43f53f3c58cef2ba60e9bd46c7801eece22aa8732a8bb1e8ec2fff1a6"
        self.assertEqual(sha256(vkey.encode()), expected)
        key = parse_vkey(vkey)
        self.assertEqual((key and key.id.hex(), key and key.algorithm), ("1bc8a740", "ml-dsa-44"))

    def test_such_a_key_can_be_a_signers_with_every_version(self) -> None:
        self.assertEqual(read_public_key("ml-dsa-44", pem(SECOND.raw)).verifies is not None, MlDsaKey.IS_KNOWN)
        key = MlDsa44Key.read(SECOND.raw)
        self.assertEqual(key is not None and key.verifies is not None, MlDsaKey.IS_KNOWN)
        self.assertIsNone(MlDsa44Key.read(SECOND.raw[1:]))


if __name__ == "__main__":
    unittest.main()
