"""The parts below receipts, each against something that is not itself: published vectors, and definitions."""

from __future__ import annotations

import hashlib
import unittest

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

from chancery_client import RegistryError, SignersRegistry
from chancery_client.canonical import canonical, parse
from chancery_client.log import is_included, leaf_hash, parse_vkey, verify_checkpoint
from chancery_client.leaf import id_of
from chancery_client.signatures import SMALL_ORDER, read_public_key
from ledger import ORDER_K1, Ledger, Pair, b64, damages, path, text, tree_hash

VKEY = "ledger.example/sign-log/1+060f69c8+ASFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS"
NOTE = "ledger.example/sign-log/1\n3\nsgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=\n"
LINE = (
    "\u2014 ledger.example/sign-log/1 Bg9pyNM8D6g+01uj1dWDqKcmgncbev8Pob5TQq/B2Gl7gEj9lvnyZsKi4tey7sUS90e8zrYSzXc"
    "YeP7AnlQblfW+wwI=\n"
)
OTHER = (
    "\u2014 witness.example/w1 IA+xqwAAAABkGFDLg+nBL6ls+tWRIFlwt+d3cKB4Cg/x3l3QpS1L2BcuSU+kMHVdaPVvlJiFMl/bFupciE/"
    "f06KiXuMHRHGWaU9iCQ==\n"
)


class Canonical(unittest.TestCase):
    def test_it_has_the_hashes_that_others_give_it(self) -> None:
        vectors = {
            '{"b":1,"a":{"z":"last","m":["x",{"c":3,"a":1}]}}': "3588b9925fbfd8c10b308c5dcd2bc8cde4d29031baf0a71b18d4ff32a216ac5f",
            '{"10":"ten","9":"nine","a":1,"1":"one"}': "d0a7a72c8533ccecbe5df62965f970811058ec8127c287f81f8c8c10ebadf6ec",
            r'{"t":"tab\tnl\nq\"bs\\ctl\u0001\u007f\u001f/\/\b\f"}': "1b42c631ca70aa5051ccb766ea28ce0239703cc19a6f4434afacd7467f18ba2f",
            r'{"\ud83d\ude00":1,"\ufb33":2,"\u20ac":3,"\r":4,"1":5,"\u0080":6,"\u00f6":7}': "aa64b47304d63a6111b144c048a88f30a28dc700b3217e0889d175cd328b87c0",
            '{"__proto__":{"x":1},"a":1}': "16f0a6f5823c7470398e5edfba59dfbde97abf692bcffed62a946ee9587d1271",
        }
        for document, expected in vectors.items():
            self.assertEqual(hashlib.sha256(canonical(parse(document)).encode()).hexdigest(), expected, document)
        numbers = '{"a":1.0,"b":1e2,"c":0.1,"d":1e21,"e":1e-7,"f":-0,"h":5e-324,"i":1.10,"j":1.5e300,"k":-0.0}'
        expected = '{"a":1,"b":100,"c":0.1,"d":1e+21,"e":1e-7,"f":0,"h":5e-324,"i":1.1,"j":1.5e+300,"k":0}'
        self.assertEqual(canonical(parse(numbers)), expected)

    def test_what_readers_disagree_on_is_refused(self) -> None:
        bad = ['{"a":1,"a":2}', r'{"a":{"b":1,"\u0062":2}}', r'["\ud800"]', r'["\udc00x"]', "[9007199254740993]"]
        bad += ["[1e400]", "[" + "9" * 5000 + "]", "[01]", "[1,]", "[NaN]", "{", "", "\ufeff1", "[" * 70 + "]" * 70]
        for document in bad:
            with self.assertRaises(ValueError, msg=document[:40]):
                parse(document)
        for document in ('[{"a":1},{"a":1}]', "[-0,1e2,123456789012345680000]", '["\U0001f600"]'):
            parse(document)


class Log(unittest.TestCase):
    def test_trees_have_the_roots_of_rfc_6962(self) -> None:
        hexes = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
        entries = [bytes.fromhex(one) for one in hexes]
        roots = {3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"}
        for size, root in {**roots, 8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"}.items():
            self.assertEqual(tree_hash(entries[:size]).hex(), root)

    def test_proofs_lead_to_the_root_only_from_their_own_leaf(self) -> None:
        for size in range(1, 41):
            leaves = [b"leaf %d" % at for at in range(size)]
            root = tree_hash(leaves)
            for index in range(size):
                leaf, proof = leaf_hash(leaves[index]), path(index, leaves)
                self.assertTrue(is_included(leaf, index, size, proof, root), f"{index} of {size}")
                self.assertFalse(is_included(leaf, index + 1, size, proof, root))
                self.assertFalse(is_included(leaf, index - 1, size, proof, root))
                self.assertFalse(is_included(leaf, index, size, [*proof, root], root))
                for at in range(len(proof)):
                    self.assertFalse(is_included(leaf, index, size, proof[:at] + [root] + proof[at + 1 :], root))
                    self.assertFalse(is_included(leaf, index, size, proof[:at] + proof[at + 1 :], root))

    def test_a_published_checkpoint_verifies_and_no_other_text_does(self) -> None:
        key = parse_vkey(VKEY)
        assert key is not None
        for note in (f"{NOTE}\n{LINE}", f"{NOTE}\n{LINE}{OTHER}", f"{NOTE}\n{OTHER}{LINE}"):
            self.assertEqual(verify_checkpoint(note, key.name, [key]).size, 3)
        damaged = LINE.replace("Bg9pyNM8", "Bg9pyNM9")
        bad = [NOTE, f"{NOTE}\n", f"{NOTE}\n{OTHER}", f"{NOTE}\n{damaged}", f"{NOTE}\n{LINE}{LINE}"]
        bad += [f"{NOTE}\n{LINE}{damaged}", f"{NOTE}\n{LINE}nonsense\n", f"{NOTE}\n{LINE}".rstrip()]
        bad += [NOTE.replace("3", "4") + f"\n{LINE}", NOTE.replace("\n3\n", "\n\r3\n") + f"\n{LINE}"]
        for note in bad:
            with self.assertRaises(ValueError, msg=note):
                verify_checkpoint(note, key.name, [key])
        with self.assertRaisesRegex(ValueError, "another ledger"):
            verify_checkpoint(f"{NOTE}\n{LINE}", "ledger.example/other", [key])
        for vkey in (VKEY.replace("f69c8", "f69c9"), VKEY[:-4], VKEY.replace("+ASFS", "+AiFS"), "x", "", 7):
            self.assertIsNone(parse_vkey(vkey))
        self.assertIsNotNone(parse_vkey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"))

    def test_a_checkpoint_has_one_spelling(self) -> None:
        ledger = Ledger()
        registry = SignersRegistry.parse(text(ledger.registry()))
        origin, root = registry.origin, b64(b"\t" * 32)
        good = ledger.note(f"{origin}\n3\n{root}\n")
        self.assertEqual(verify_checkpoint(good, origin, registry.note_keys).size, 3)
        for size, rest in (("03", root), ("+3", root), ("3", f"{root}\nmore"), ("3", root[4:]), (str(2**53), root)):
            with self.assertRaisesRegex(ValueError, "not a checkpoint"):
                verify_checkpoint(ledger.note(f"{origin}\n{size}\n{rest}\n"), origin, registry.note_keys)

    def test_ids_name_their_index(self) -> None:
        self.assertEqual(id_of("log.example/chancery", 5), "7418f819-4aff-8000-8000-000000000005")
        self.assertEqual(id_of("log.example/chancery", 2**48 + 7), "7418f819-4aff-8000-8001-000000000007")


class Keys(unittest.TestCase):
    def test_the_points_of_small_order_are_those(self) -> None:
        p = 2**255 - 19
        d = -121665 * pow(121666, -1, p) % p
        # Twice a point of order 8 has y 0; with the curve's equation that is 2y² = 1 − dy⁴.
        for y in SMALL_ORDER:
            self.assertTrue(y * y % p < 2 or (2 * y * y - 1 + d * y**4) % p == 0, y)
        self.assertEqual(len(SMALL_ORDER), 5)

    def test_secp256k1_takes_the_lower_s_only_and_der_has_one_spelling(self) -> None:
        digest = hashlib.sha256(b"m").digest()
        scheme = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        curves = [(ec.SECP256K1(), "ecdsa-secp256k1-sha256", False), (ec.SECP256R1(), "ecdsa-p256-sha256", True)]
        for curve, algorithm, both in curves:
            key = ec.generate_private_key(curve)
            public = read_public_key(algorithm, Pair(algorithm, key.public_key(), lambda _: b"").pem)
            assert public.verifies is not None
            r, s = utils.decode_dss_signature(key.sign(digest, scheme))
            order = ORDER_K1 if not both else 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
            low, high = (utils.encode_dss_signature(r, one) for one in (min(s, order - s), max(s, order - s)))
            self.assertEqual((public.verifies(digest, low), public.verifies(digest, high)), (True, both))
            # A length in two bytes where one is enough; a byte too many; a flipped one; none at all.
            for bad in (bytes([0x30, 0x81]) + low[1:], low + b"\0", low[:-1] + bytes([low[-1] ^ 1]), b""):
                self.assertFalse(public.verifies(digest, bad))
            self.assertFalse(public.verifies(hashlib.sha256(b"other").digest(), low))

    def test_keys_that_no_honest_device_makes_are_refused(self) -> None:
        def pem(key: object) -> str:
            return str(Pair("none", key, lambda _: b"").pem)

        rsa_3 = rsa.generate_private_key(3, 2048).public_key()
        p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
        body = b64(bytes.fromhex("302a300506032b6570032100") + b"\1" + b"\0" * 31)
        identity = f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"
        spelled = pem(p384).replace("\n", "\r\n")
        cases = [("rsa-sha256", pem(rsa_3)), ("ecdsa-p256-sha256", pem(p384)), ("ed25519", pem(p384))]
        for algorithm, one in [*cases, ("ecdsa-p384-sha384", spelled), ("ed25519", identity), ("ed25519", "x")]:
            with self.assertRaises(ValueError, msg=algorithm):
                read_public_key(algorithm, one)
        spki = serialization.load_pem_public_key(pem(p384).encode())
        self.assertIsInstance(spki, ec.EllipticCurvePublicKey)

    def test_a_registry_half_understood_is_not_trusted(self) -> None:
        good, refused = Ledger().registry(), 0
        SignersRegistry.parse(text(good))
        # Free text, times for people, and where a key stands may differ; everything else is refused.
        free = ("description", "purpose", "deployedAt", "state", "kid", "signer_kid", "activatedIndex")
        for what, damaged in damages(good):
            where, how = what.split(" ", 1)
            name = where.split(".")[-1]
            # Another algorithm of the same family fits the same key, and a key altered in its numbers may be one.
            other_key = name in ("algorithm", "public_key_pem") and how != "removed" and how != "of another type"
            fewer = where.startswith("signers") and how in ("removed", "shortened", "reversed")
            fewer = fewer and (where == "signers" or name.isdigit()) and what != "signers removed"
            if name in free or other_key or fewer or what == "ledger.vkeys extended":
                continue
            refused += 1
            with self.subTest(what), self.assertRaises(RegistryError):
                SignersRegistry.parse(text(damaged))
        self.assertGreater(refused, 50)

    def test_a_registry_may_have_a_policy_of_its_ledger_s_keys_and_of_no_others(self) -> None:
        file = Ledger().registry()
        (vkey,) = file["ledger"]["vkeys"]
        for good in (f"log {vkey}\nquorum none\n", f"# ours\n\tlog  {vkey} https://log.example/\nquorum none\n"):
            file["ledger"]["policy"] = good
            self.assertTrue(SignersRegistry.parse(text(file)).note_keys)
        others = ("quorum none\n", f"log {vkey}", "log x\nquorum none\n", f"log {vkey}\nlog x\nquorum none\n")
        wrong: list[object] = [*others, "", None, 7, {}]
        for bad in wrong:
            file["ledger"]["policy"] = bad
            with self.subTest(bad), self.assertRaises(RegistryError):
                SignersRegistry.parse(text(file))


if __name__ == "__main__":
    unittest.main()
