"""Signatures over digests, by every algorithm of the registry that the package ``cryptography`` can verify."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, Mapping, Optional, Tuple, Type, Union

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

#: Digest lengths in bytes.
DIGEST_BYTES: Mapping[str, int] = {"sha256": 32, "sha384": 48, "sha512": 64}
_HASHES: Dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_CURVES: Dict[str, Type[ec.EllipticCurve]] = {
    "ecdsa-p256-sha256": ec.SECP256R1,
    "ecdsa-p384-sha384": ec.SECP384R1,
    "ecdsa-secp256k1-sha256": ec.SECP256K1,
}
_SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_ANY_DIGEST = ("ed25519", "ml-dsa-44", "ml-dsa-65")
_RSA = re.compile(r"rsa(?:-pss)?-(sha(?:256|384|512))")
_MAC = re.compile(r"hmac-sha(?:256|384|512)")
_FIELD = 2**255 - 19
#: The y of every point of Ed25519's curve whose order divides 8.
SMALL_ORDER = frozenset(
    [
        0,
        1,
        _FIELD - 1,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    ]
)
#: Whether a signature is one over a digest, which is not hashed again.
Verifies = Callable[[bytes, bytes], bool]


def is_mac(algorithm: str) -> bool:
    """Whether it is a MAC, which outsiders cannot verify."""
    return _MAC.fullmatch(algorithm) is not None


def is_algorithm(name: str) -> bool:
    """Whether the registry may name this algorithm."""
    known = name in _ANY_DIGEST or name in _CURVES or name == "ed25519ph"
    return known or _RSA.fullmatch(name) is not None or is_mac(name)


def takes(algorithm: str, digest_algorithm: str) -> bool:
    """Whether a key of this algorithm takes digests of this kind."""
    if digest_algorithm not in DIGEST_BYTES or algorithm in _ANY_DIGEST:
        return digest_algorithm in DIGEST_BYTES
    if algorithm == "ed25519ph":
        return digest_algorithm == "sha512"
    return digest_algorithm == ("sha256" if is_mac(algorithm) else algorithm[-6:])


def _is_strong(raw: bytes) -> bool:
    """Whether 32 bytes are the one encoding of a y, and not of a point of small order."""
    y = int.from_bytes(raw, "little") & ((1 << 255) - 1)
    return y < _FIELD and y not in SMALL_ORDER


@dataclass(frozen=True)
class Ed25519Key:
    """RFC 8032, without points of small order."""

    raw: bytes
    _key: ed25519.Ed25519PublicKey

    @staticmethod
    def read(raw: bytes) -> Optional[Ed25519Key]:
        """A key from its 32 bytes; ``None`` if no honest device makes such a one."""
        if len(raw) != 32 or not _is_strong(raw):
            return None
        try:
            return Ed25519Key(raw, ed25519.Ed25519PublicKey.from_public_bytes(raw))
        except ValueError:
            return None

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is one over the message."""
        good = len(signature) == 64 and _is_strong(signature[:32])
        return good and _tried(lambda: self._key.verify(signature, message))


@dataclass(frozen=True)
class PublicKey:
    """A public key together with what it does to a digest."""

    #: ``None`` if the algorithm cannot be verified here.
    verifies: Optional[Verifies]
    #: The 32 bytes of a key for pure Ed25519.
    ed25519: Optional[bytes] = None


#: Lengths of ML-DSA-44 (FIPS 204), in bytes.
ML_DSA_44_KEY_BYTES = 1312
ML_DSA_44_SIGNATURE_BYTES = 2420
#: What stands before such a key in its SPKI.
_ML_DSA_44_SPKI = bytes.fromhex("30820532300b06096086480165030403110382052100")


@dataclass(frozen=True)
class MlDsa44Key:
    """FIPS 204, pure and without context."""

    raw: bytes
    #: ``None`` if this version of ``cryptography`` lacks the algorithm.
    verifies: Optional[Verifies]

    @staticmethod
    def read(raw: bytes) -> Optional[MlDsa44Key]:
        """A key from its bytes; ``None`` if they are none."""
        if len(raw) != ML_DSA_44_KEY_BYTES:
            return None
        try:
            key = serialization.load_der_public_key(_ML_DSA_44_SPKI + raw)
        except (UnsupportedAlgorithm, ValueError):
            return MlDsa44Key(raw, None)
        # Only newer versions of the package have the class, so its type cannot be named.
        verify = getattr(key, "verify")
        return MlDsa44Key(raw, lambda message, signature: _tried(lambda: verify(signature, message)))


def _tried(verify: Callable[[], object]) -> bool:
    try:
        verify()
    except (InvalidSignature, ValueError):
        return False
    return True


def read_public_key(algorithm: str, pem: str) -> PublicKey:
    """Reads SPKI PEM in its one spelling; raises ``ValueError`` if it is not a strong key for this algorithm."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (UnsupportedAlgorithm, ValueError):
        # Older versions of the package take such a key for none at all.
        if algorithm in ("ml-dsa-44", "ml-dsa-65"):
            return PublicKey(None)
        raise ValueError("not a key for this algorithm") from None
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_bytes(serialization.Encoding.PEM, spki).decode().strip() != pem.strip():
        raise ValueError("a second spelling of the key")
    if isinstance(key, ed25519.Ed25519PublicKey) and algorithm in ("ed25519", "ed25519ph"):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        strong = Ed25519Key.read(raw)
        if strong is None:
            raise ValueError("a key of small order")
        # The package has no Ed25519ph; such keys can be registered, their signatures not verified here.
        return PublicKey(strong.verifies, raw) if algorithm == "ed25519" else PublicKey(None)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES.get(algorithm, ())):
        return PublicKey(_ecdsa(key, algorithm))
    if isinstance(key, rsa.RSAPublicKey) and _RSA.fullmatch(algorithm):
        return PublicKey(_rsa(key, algorithm))
    if algorithm in ("ml-dsa-44", "ml-dsa-65") and type(key).__name__ == f"MLDSA{algorithm[-2:]}PublicKey":
        # Only newer versions of the package have the class, so its type cannot be named.
        verify = getattr(key, "verify")
        return PublicKey(lambda digest, signature: _tried(lambda: verify(signature, digest)))
    raise ValueError("not a key for this algorithm")


def _ecdsa(key: ec.EllipticCurvePublicKey, algorithm: str) -> Verifies:
    scheme = ec.ECDSA(utils.Prehashed(_HASHES[algorithm[-6:]]()))

    def verifies(digest: bytes, signature: bytes) -> bool:
        scalars = _scalars(signature)
        if scalars is None or utils.encode_dss_signature(*scalars) != signature:
            return False
        if algorithm == "ecdsa-secp256k1-sha256" and scalars[1] > _SECP256K1_ORDER // 2:
            return False
        return _tried(lambda: key.verify(signature, digest, scheme))

    return verifies


def _scalars(der: bytes) -> Optional[Tuple[int, int]]:
    try:
        return utils.decode_dss_signature(der)
    except ValueError:
        return None


def _rsa(key: rsa.RSAPublicKey, algorithm: str) -> Verifies:
    exponent = key.public_numbers().e
    if not 2048 <= key.key_size <= 4096 or exponent < 65_537 or exponent % 2 == 0:
        raise ValueError("a weak or a too large key")
    hashed = _HASHES[algorithm[-6:]]()
    scheme: Union[padding.PSS, padding.PKCS1v15] = padding.PKCS1v15()
    if algorithm.startswith("rsa-pss"):
        scheme = padding.PSS(padding.MGF1(hashed), hashed.digest_size)
    size = (key.key_size + 7) // 8

    def verifies(digest: bytes, signature: bytes) -> bool:
        right = len(signature) == size and len(digest) == hashed.digest_size
        return right and _tried(lambda: key.verify(signature, digest, scheme, utils.Prehashed(hashed)))

    return verifies
