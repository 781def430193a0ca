"""JSON as all readers agree on it: read strictly, written canonically (RFC 8785)."""

from __future__ import annotations

import base64
import binascii
import decimal
import json
import math
import re
from typing import Any, Dict, List, NoReturn, Optional, Tuple

#: Deepest nesting written or read: a payload may be 64 deep, inside an event inside a receipt.
DEPTH_MAX = 67


def parse(text: str) -> Any:
    """Reads JSON text. Raises ``ValueError`` for what is not JSON and for what readers disagree on.

    That is: a name twice in one object, half a surrogate pair, a number that a double does not hold exactly, deep
    nesting.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_real, parse_constant=_constant
        )
        # Refuses what cannot be written again: numbers that no double holds, half surrogates.
        canonical(value).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members


def _integer(literal: str) -> int:
    # No double is longer; whether one holds this number is seen when it is written again.
    if len(literal) > 400:
        raise ValueError(f"{literal:.40}… is outside the numbers every reader agrees on")
    return int(literal)


def _real(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"{literal:.40} is outside the numbers every reader agrees on")
    # 3.0 and 3e0 are other spellings of 3.
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _number(value: float) -> str:
    """As ECMAScript writes a number; a whole one beyond all doubles as infinity."""
    if value == 0:
        return "0"
    try:
        text = repr(float(value))
    except OverflowError:
        return "Infinity"
    if 1e-6 <= abs(value) < 1e21:
        plain = format(decimal.Decimal(text), "f")
        return plain[:-2] if plain.endswith(".0") else plain
    return re.sub(r"e([+-])0*", r"e\1", text.replace(".0e", "e"))


def canonical(value: Any, depth: int = 0) -> str:
    """The one canonical text of a value that `parse` gave. Raises ``ValueError`` for anything else."""
    if depth > DEPTH_MAX:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: str(name).encode("utf-16-be", "surrogatepass"))
        members = (f"{_string(name)}:{canonical(value[name], depth + 1)}" for name in names)
        return "{" + ",".join(members) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(canonical(item, depth + 1) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        exact = _number(value) == str(value) if isinstance(value, int) else math.isfinite(value)
        if not exact:
            raise ValueError("a number that a double does not hold")
        return _number(value)
    return _string(value)


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} is no JSON")
    return json.dumps(value, ensure_ascii=False)


def from_base64(text: object) -> Optional[bytes]:
    """The bytes of standard base64 with padding; ``None`` for any other spelling."""
    try:
        raw = base64.b64decode(text if isinstance(text, str) else "*", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None


def from_hex(text: object) -> Optional[bytes]:
    """The bytes of lower-case hex, or ``None``."""
    if not isinstance(text, str) or re.fullmatch(r"(?:[0-9a-f]{2})*", text) is None:
        return None
    return bytes.fromhex(text)
