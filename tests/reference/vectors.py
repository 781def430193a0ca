#!/usr/bin/env python3
"""vectors.py FORMAT.md: executes blocks `vector` of the format's page with the code of verify.py, and prints how many of each kind.
Exit 0 if each holds; else the failed assertion. Needs the package `cryptography` in a version that has ML-DSA."""
import collections, hashlib, json, pathlib, re, sys
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
sys.dont_write_bytecode = True  # beside its source
import verify
def words(block):  # `name value` a line, as long as there are such lines; the rest is a note
    named = re.match(r"(?:[a-z0-9-]+ \S+\n)*", block)[0]
    return dict(line.split(" ") for line in named.splitlines()), block[len(named):] + "\n"
def refuses(what, *given):
    try:
        what(*given)
    except verify.WRONG:
        return True
    return False
def leaf(block):
    event = json.loads(block)
    assert verify.canonical(event) == block
    assert verify.sha256(block.replace('"hash":"%s",' % event["hash"], "", 1).encode()).hex() == event["hash"]
    assert "chain" not in event or event["chain"]["hash"] == verify.chained(event)
def tree(block):
    first, *sizes = block.split("\n")
    leaves = [bytes.fromhex(leaf.strip('"')) for leaf in first.split(" ")[1:]]
    for _, size, root in map(str.split, sizes):
        levels = [[] for _ in range(64)]
        for leaf in leaves[:int(size)]:
            verify.push(levels, verify.sha256(b"\0", leaf))
        assert verify.root(levels).hex() == root
def note(block):
    named, signed = words(block)
    origin = signed.split("\n")[0]
    key_id, _, key = verify.read_vkey(named["vkey"], origin)
    text, by = verify.open_note(signed.encode(), {(origin, key_id): key})
    assert signed.startswith(text) and by == {(origin, key_id)}
    assert refuses(verify.open_note, signed.replace("\n3\n", "\n4\n").encode(), {(origin, key_id): key})
def ml_dsa(block):
    named, text = words(block)
    origin, time = text.split("\n")[0], int(named["time"]).to_bytes(8, "big")
    private = MLDSA44PrivateKey.from_seed_bytes(bytes.fromhex(named["seed"]))
    material = b"\6" + private.public_key().public_bytes_raw()
    vkey = f"{origin}+{named['id']}+{verify.base64.b64encode(material).decode()}"
    assert hashlib.sha256(vkey.encode()).hexdigest() == named["vkey-sha256"]
    key_id, _, key = verify.read_vkey(vkey, origin)
    assert key_id.hex() == named["id"]
    message = key.message(time, text.encode())
    assert message.hex() == named["message"]
    # The package adds randomness, so the line is another than the page's; its length is the same.
    signature = private.sign(message)
    key.verify(time + signature, text.encode())
    assert (key.checked, key.unchecked) == (1, 0)
    other = bytes([signature[0] ^ 1]) + signature[1:]
    later = (int(named["time"]) + 1).to_bytes(8, "big")
    for cosigned in (time + other, later + signature, time + signature + b"\0", signature):
        assert refuses(key.verify, cosigned, text.encode())
    assert refuses(key.verify, time + signature, text.replace("\n3\n", "\n4\n").encode())
CHECKS = {"leaf": leaf, "tree": tree, "note": note, "ml-dsa": ml_dsa}
if __name__ == "__main__":
    page = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"^```vector ([a-z-]+)\n(.*?)\n```$", page, re.M | re.S) if block[0] in CHECKS]
    for kind, block in blocks:
        CHECKS[kind](block)
    print(*(f"{count} {kind}" for kind, count in collections.Counter(kind for kind, _ in blocks).items()), sep=", ")
