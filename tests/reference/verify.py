#!/usr/bin/env python3
"""verify.py ARCHIVE --signers signers.json: an independent verifier, written from ledger/format/FORMAT.md alone.
Exit 0 valid, 1 bad, 2 usage, 3 evidence missing. Needs the package `cryptography` (which has no ML-DSA over µ) and nothing of ours.
By a version of it that has no ML-DSA, the ledger's signatures by that are counted as not checked; those of entries are bad."""
import base64, collections, contextlib, datetime, decimal, functools, hashlib, json, os, pathlib, re, sys
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
try:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
except ImportError:  # what it would verify is counted
    MLDSA44PublicKey = None
MEMBERS = {*"actor eventType hash id payload prevHash seq signer_kid stream ts version".split()}
MORE, HALF = {"chain", "manifestSignatureId", "metadata"}, 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0
OUTCOME = re.compile(r"signing\.signature\.(issued|failed|abandoned|anchored|checking)")
ACT = re.compile(r"(governance|kill_switch|signer\.rotation)\..*|signer\.(testing|tested|compromise)|ledger\.(reverified|key\.continued)")
OWN = re.compile(r"(signing|signer|ledger|kill_switch|governance)\..*|registry\.published|request\.refused|policy\.(loaded|verdict)")
TILE = re.compile(r"tile/(entries|[0-7])/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?")
WRONG = (UnsupportedAlgorithm, ValueError, KeyError, TypeError, AttributeError, InvalidSignature, RecursionError)
MESSAGES = ("ed25519", "ml-dsa-44", "ml-dsa-65")  # those that hash nothing beforehand
HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
sha256 = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
pem_key = lambda pem: serialization.load_pem_public_key(pem.encode())
def need(condition, why):
    if not condition:
        raise ValueError(why)
def b64(text):
    raw = base64.b64decode(text, validate=True)
    need(base64.b64encode(raw).decode() == text, "second spelling of base64")
    return raw
utf16 = lambda name: name.encode("utf-16-be")
def rebuilt(name):  # the order of section 2.1
    small = re.fullmatch(r"0|[1-9]\d{0,9}", name, re.ASCII) and int(name) < 2**32 - 1
    return (0, int(name), b"") if small else (1, 0, utf16(name))
def canonical(value, order=utf16, lost=()):  # RFC 8785
    form = lambda value: canonical(value, order, lost)
    if isinstance(value, dict):
        names = sorted({*value} - {*lost}, key=order)
        return "{" + ",".join(form(name) + ":" + form(value[name]) for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(form, value)) + "]"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return json.dumps(value, ensure_ascii=False)
    text = repr(float(value)).removesuffix(".0") if value else "0"
    return format(decimal.Decimal(text), "f") if 1e-6 <= abs(value) < 1e21 else re.sub("e([+-])0", r"e\1", text)
def chained(event):  # the hash that an existing writer's row has
    dialect, payload, before = event["chain"]["dialect"], event["payload"], event["chain"]["prevHash"]
    if dialect == "kernel":
        row = {"eventType": event["eventType"], "payload": None, "prevHash": before, "ts": event["ts"]}
        row = canonical(row).replace('"payload":null', '"payload":' + canonical(payload, rebuilt, ["__proto__"]), 1)
    elif dialect == "shared":
        row = {"actor_id": event["actor"], "created_at": event["ts"], "event_type": event["eventType"], "prev_hash": before}
        row = canonical(row).replace(',"prev_hash"', ',"payload":' + canonical(payload, rebuilt) + ',"prev_hash"', 1)
    elif dialect == "kernel-go":
        row = canonical(payload, lambda name: name.encode())
        for char in "<>&\u2028\u2029":
            row = row.replace(char, f"\\u{ord(char):04x}")
    else:
        need(dialect in ("agent-manager", "memory-layer", "kernel-server"), "unknown dialect")
        row = canonical(payload)
    inside = dialect in ("kernel", "shared")
    return sha256(row.encode(), b"" if inside else bytes.fromhex(before or "")).hex()
def check(signer, digest, signature):  # by any algorithm of section 6 but ed25519ph, which the package lacks
    sha = HASHES.get(signer["algorithm"][-6:], hashes.SHA512())
    hashed, pss = utils.Prehashed(sha), padding.PSS(padding.MGF1(sha), sha.digest_size)
    how = {"ecdsa": [ec.ECDSA(hashed)], "rsa-s": [padding.PKCS1v15(), hashed], "rsa-p": [pss, hashed]}
    need("k1" not in signer["algorithm"] or utils.decode_dss_signature(signature)[1] <= HALF, "the higher s")
    pem_key(signer["public_key_pem"]).verify(signature, digest, *how.get(signer["algorithm"][:5], []))
class Cosigner:  # a ledger's key of type 0x06, which signs what a checkpoint says, and when
    def __init__(self, raw):
        need(len(raw) == 1312, "not a key for ML-DSA-44")
        self.raw, self.key, self.checked, self.unchecked = raw, None, 0, 0
        with contextlib.suppress(UnsupportedAlgorithm):
            self.key = MLDSA44PublicKey and MLDSA44PublicKey.from_public_bytes(raw)
    def message(self, time, text):
        origin, size, head, end = text.decode().split("\n")
        name = bytes([len(origin.encode())]) + origin.encode()  # the cosigner's and the log's are one
        need(end == "" and len(b64(head)) == 32 and str(int(size)) == size and 0 <= int(size) < 1 << 63, "not a checkpoint")
        return b"".join([b"subtree/v1\n\0", name, time, name, bytes(8), int(size).to_bytes(8, "big"), b64(head)])
    def verify(self, signature, text):
        time, signature = signature[:8], signature[8:]
        message = self.message(time, text)
        need(len(signature) == 2420 and time[0] < 128, "not a cosignature")
        if self.key is None:
            self.unchecked += 1
        else:
            self.key.verify(signature, message)
            self.checked += 1
def read_vkey(vkey, origin):  # a log's key: its key id, its bytes, and what verifies
    material = b64(vkey.split("+", 2)[2])
    key_id = sha256(origin.encode(), b"\n", material)[:4]
    need(vkey == f"{origin}+{key_id.hex()}+{base64.b64encode(material).decode()}", "not a vkey of the origin")
    kinds = {1: Ed25519PublicKey.from_public_bytes, 6: Cosigner}
    return key_id, material[1:], kinds[material[0]](material[1:])
def open_note(raw, keys, cosigners={}, witnesses=False):  # the text of a note that known keys signed, each once, and nobody else but witnesses; which
    text, blank, lines = raw.decode().rpartition("\n\n")
    need(blank and lines.endswith("\n") and not any(c < " " and c != "\n" for c in text + lines), "not a note")
    signed = set()
    for line in lines[:-1].split("\n"):
        dash, name, material = line.split(" ")
        key_id, signature = b64(material)[:4], b64(material)[4:]
        key = keys.get((name, key_id)) or cosigners.get((name, key_id))
        need(dash == "\u2014" and (key or witnesses), "signed by a key the registry does not know")
        need((name, key_id) not in signed, "signed twice by one key")
        if key:
            key.verify(signature, (text + "\n").encode())
            signed.add((name, key_id))
    need(signed & {*keys}, "not signed by an Ed25519 key of the registry")
    return text + "\n", signed
def path(number, before=""):
    return (path(number // 1000, "x") + "/" if number > 999 else "") + f"{before}{number % 1000:03}"
def cut(bundle, width):  # the leaves of a bundle, each with its length before it
    leaves, at = [], 0
    while at < len(bundle):
        start, at = at, at + 2 + int.from_bytes(bundle[at:at + 2], "big")
        leaves.append(bundle[start:at])
    need(at == len(bundle) and len(leaves) == width, f"does not hold {width} whole leaves")
    return leaves
def push(levels, node, level=0):  # adds a leaf to an RFC 6962 tree, kept as the complete nodes of each level
    levels[level].append(node)
    if len(levels[level]) % 2 == 0:
        push(levels, sha256(b"\1", *levels[level][-2:]), level + 1)
def root(levels):
    alone = [nodes[-1] for nodes in levels if len(nodes) % 2] or [sha256()]
    return functools.reduce(lambda right, left: sha256(b"\1", left, right), alone)
class Verifier:
    def __init__(self, archive, registry):
        self.archive, self.origin = archive, registry["ledger"]["origin"]
        self.bad, self.missing, self.claimed = [], [], set()
        self.streams, self.chains, self.life, self.published, self.keys = {}, {}, {}, {}, {}
        self.sizes, self.signed, self.cosigned = {}, {}, {}
        self.waiting, self.map, self.mapped = collections.deque(), {}, -1
        self.tag = "{0:.8}-{1}-8000-".format(tag := sha256(self.origin.encode())[:6].hex(), tag[8:])
        self.signers = {signer["signer_kid"]: signer for signer in registry["signers"]}
        self.cosigners, raw = {}, set()  # keys of the ledger that sign with ML-DSA-44, checkpoints alone
        for key_id, bare, key in [read_vkey(vkey, self.origin) for vkey in registry["ledger"]["vkeys"]]:
            (self.cosigners if isinstance(key, Cosigner) else self.keys)[self.origin, key_id] = key
            raw.add(bare)
        self.second = [signer for signer in registry["signers"] if signer["algorithm"] == "ml-dsa-44"]
        ed25519 = {kid: signer for kid, signer in self.signers.items() if signer["algorithm"] == "ed25519"}
        bare = {kid: pem_key(signer["public_key_pem"]).public_bytes_raw() for kid, signer in ed25519.items()}
        self.ledger, origin = {kid for kid in ed25519 if bare[kid] in raw}, self.origin.encode()
        self.lives = {(self.origin, sha256(origin, b"\n\1", bare[kid])[:4]): self.signers[kid] for kid in self.ledger}
        walk = [(at, name) for at, _, names in os.walk(archive) for name in names]
        self.found = {os.path.relpath(os.path.join(*found), archive) for found in walk}
    def read(self, name):
        self.claimed.add(name)
        if name not in self.found:
            return self.missing.append(f"{name}: missing")
        return pathlib.Path(self.archive, name).read_bytes()
    @contextlib.contextmanager
    def place(self, name):
        try:
            yield
        except WRONG as error:
            self.bad.append(f"{name}: {error or type(error).__name__}")
    def checkpoints(self):
        epochs = [int(name[11:]) for name in self.found if re.fullmatch(r"checkpoint/\d{12}", name)]
        heads, count = {}, max(epochs, default=0) + 1
        for name in [f"checkpoint/{epoch:012}" for epoch in range(count)]:
            if (note := self.read(name)) is not None:
                with self.place(name):
                    size, head = self.head(note)
                    need(size > max(heads, default=-1), "sizes do not grow")
                    need(self.stands(size, "retiredIndex"), "by a key that was retired")
                    heads[size], self.sizes[int(name[11:])] = head, size
        if heads:
            with self.place("the last checkpoint"):
                need(self.stands(max(heads), "retiredIndex", "compromisedSince"), "by a key that is not believed")
        self.gap, before = len(heads) != count, -1
        for name in sorted(name for name in self.found if re.fullmatch(r"witnessed/\d{12}", name)):
            with self.place(name):  # who cosigned is for a policy to say
                size, head = self.head(self.read(name), True)
                need(before < size <= self.sizes.get(int(name[10:]), max(heads, default=0)), "sizes do not grow, or more than its epoch")
                before, self.cosigned[size] = size, (name, head)
        return heads
    def head(self, note, witnesses=False):  # size and root of a checkpoint of this ledger, under all signatures that are due
        text, signed = open_note(note, self.keys, self.cosigners, witnesses)
        origin, size, head, end = text.split("\n")
        need(origin == self.origin and end == "" and str(int(size)) == size, "not of this ledger")
        due = self.due(int(size) - 1)
        need(not due or signed & due, "lacks the signature by ML-DSA-44 that is due")
        self.signed[int(size)] = signed & {*self.keys}
        return int(size), b64(head)
    def stands(self, size, *ends):  # whether one of the Ed25519 keys that signed it had not ended by its last entry
        lives = [self.lives.get(name, {}) for name in self.signed[size]]
        return any(all(size <= life.get(end, size) for end in ends) for life in lives)
    def due(self, last):  # keys of which one has signed a checkpoint that ends with this entry
        ends = lambda signer: min(signer.get("retiredIndex", last + 1), signer.get("compromisedSince", last + 1))
        due = [signer for signer in self.second if 0 <= signer.get("activatedIndex", last + 1) <= last < ends(signer)]
        raw = [b64(re.sub("-----.*?-----|\n", "", signer["public_key_pem"]))[-1312:] for signer in due]  # the end of its SPKI
        return {name for name, key in self.cosigners.items() if key.raw in raw}
    def leaves(self, heads, size):  # every leaf, tail, root and tile, in order; False if it must stop
        tails = {at: self.read(f"tile/entries/{path(at // 256)}.p/{at % 256}") for at in heads if at % 256}
        bundles = [self.read("tile/entries/" + path(n)) for n in range(size // 256)] + [tails.get(size)]
        places = [(level, n) for level in range(8) for n in range(size >> 8 * level + 8)]
        tiles, tree = {at: self.read(f"tile/{at[0]}/{path(at[1])}") for at in places}, [[] for _ in range(64)]
        edges = {(level, at >> 8 * level) for level in range(8) for at in heads}  # of static logs; none must be there
        names = {(level, at): f"tile/{level}/{path(at // 256)}.p/{at % 256}" for level, at in edges if at % 256}
        partials = {edge: (name, self.read(name)) for edge, name in names.items() if name in self.found}
        for start in range(0, size, 256):
            name, leaves = f"tile/entries/{path(start // 256)}", None
            with self.place(name) if bundles[start // 256] is not None else contextlib.suppress(TypeError):
                leaves = cut(bundles[start // 256], min(256, size - start))
            if leaves is None:
                return False
            for at in [at for at in heads if start < at < start + 256]:
                if tails[at] not in (None, b"".join(leaves[:at - start])):
                    self.bad.append(f"{name}.p/{at - start}: differs from its bundle")
            for index, leaf in enumerate(leaves, start):
                push(tree, sha256(b"\0", leaf[2:]))
                with self.place(f"leaf {index}"):
                    self.leaf(leaf[2:], index)
                    need(heads.get(index + 1, b"") in (b"", root(tree)), "root is not the checkpoint's")
                with self.place(*self.cosigned.get(index + 1, ("", b""))[:1]):
                    need(self.cosigned.get(index + 1, ("", b""))[1] in (b"", root(tree)), "not this tree's root")
        for level, n in places:
            if tiles[level, n] not in (None, b"".join(tree[8 * level][n * 256:n * 256 + 256])):
                self.bad.append(f"tile/{level}/{path(n)}: not the tree's hashes")
        for (level, at), (name, tile) in partials.items():
            if tile != b"".join(tree[8 * level][at // 256 * 256:at]):
                self.bad.append(f"{name}: not the tree's hashes")
        return True
    def leaf(self, raw, index):
        event = json.loads(raw, parse_constant=lambda _: need(False, "not a number"))
        need(canonical(event).encode() == raw and MEMBERS <= {*event} <= MEMBERS | MORE, "not canonical")
        need(sha256(raw.replace(b'"hash":"%s",' % event["hash"].encode(), b"", 1)).hex() == event["hash"], "hash")
        for name, most in (("actor", 256), ("eventType", 128), ("id", 128), ("stream", 256)):
            need(re.fullmatch(r"[!#-\[\]-~]{1,%d}" % most, event[name]), name)
        datetime.datetime.fromisoformat(re.fullmatch(r"\d{4}(-\d\d){2}T(\d\d:){2}\d\d\.\d{3}Z", event["ts"])[0])
        seq, link = self.streams.get(event["stream"], (-1, None))
        self.streams[event["stream"]] = (event["seq"], event["hash"])
        if (chain := event.get("chain")) or event["stream"] in self.chains:
            dialect, before, ts = self.chains.get(event["stream"], (chain["dialect"], chain["prevHash"], ""))
            need({*chain} == {"dialect", "hash", "prevHash"} and chain["hash"] == chained(event), "hash of its chain")
            need((chain["dialect"], chain["prevHash"]) == (dialect, before) and event["ts"] > ts, "breaks its chain")
            self.chains[event["stream"]] = (dialect, chain["hash"], event["ts"])
        need((event["seq"], event["prevHash"], event["version"]) == (seq + 1, link, 1), "breaks its stream")
        kind, payload, id = event["eventType"], event["payload"], event["id"]
        own, outcome = OWN.fullmatch(kind), OUTCOME.fullmatch(kind)
        right = f"{self.tag}{0x8000 | index >> 48:04x}-{index & (1 << 48) - 1:012x}"
        need(id == right or not own and not re.fullmatch(self.tag + "[89ab][0-9a-f]{3}-[0-9a-f]{12}", id), "id")
        home, homes = "chancery/governance" if ACT.fullmatch(kind) else "chancery", ("chancery", "chancery/governance")
        mine = event["stream"] == home and event["actor"] == "chancery"
        half = event["stream"] in homes or event["actor"] == "chancery"
        need(mine and not outcome or not half and (outcome or not own), "reserved name")
        need(event["signer_kid"] in self.ledger, "does not stand under a ledger key")
        opening = ("ledger.opened", self.origin, 1)
        need(kind != opening[0] if index else (kind, payload["origin"], payload["formatVersion"]) == opening, "opening")
        told = [payload, payload.get("coSigner") or {}] if re.match("signing[.]|signer[.]", kind) else []
        names = {"stream:" + event["stream"], *("key:" + part["signer_kid"] for part in told if "signer_kid" in part)}
        self.waiting.append((index, names, event["hash"]))
        if kind == "ledger.heads":
            self.heads(payload, index)
        if kind == "registry.published":
            need(payload["version"] == len(self.published) + 1, "registry versions count up by one")
            self.published[payload["version"]] = payload["sha256"]
        if kind in ("signer.activated", "signer.retired", "signing.signature.issued"):
            for part in [payload, payload.get("coSigner") if OUTCOME.fullmatch(kind) else None]:
                part and self.use(kind, {**payload, **part}, part["signer_kid"], self.signers[part["signer_kid"]], index)
        elif kind == "signing.signature.anchored":
            need(payload["kid"] in [signer.get("kid") for signer in self.signers.values()], "no such kid")
    def heads(self, payload, index):  # the head of every chain below a size
        need(max(self.mapped + 1, index - 65536) <= payload["size"] <= index, "heads out of place")
        self.mapped, tree = payload["size"], [[] for _ in range(64)]
        while self.waiting[0][0] < self.mapped:
            at, names, digest = self.waiting.popleft()
            for name in names:
                count, before, _ = self.map.get(name, (0, bytes(32), 0))
                grown = sha256(b"chancery/head/v1\n", before, at.to_bytes(8, "big"), bytes.fromhex(digest))
                self.map[name] = (count + 1, grown, at)
        for name, (count, grown, last) in sorted(self.map.items()):
            head = canonical({"count": count, "hash": grown.hex(), "last": last, "name": name})
            push(tree, sha256(b"\0", head.encode()))
        need((payload["names"], payload["root"]) == (len(self.map), root(tree).hex()), "not the heads of these leaves")
    def use(self, kind, payload, name, signer, index):  # what an event says about a key
        if kind == "signer.activated":
            told = [payload.get("public_key_pem"), payload["algorithm"], payload["kid"], index]
            known = [signer.get("public_key_pem"), signer["algorithm"], signer.get("kid", payload["kid"])]
            need(told == [*known, signer.get("activatedIndex")] and name not in self.life, "not as in the registry")
            self.life[name] = None
        elif kind == "signer.retired":
            need(self.life[name] is None and signer.get("retiredIndex", index) == index, "not as in the registry")
            self.life[name] = index
        else:
            need(signer.get("purpose") != "canary", "a canary signed")
            need(self.life[name] is None and index < signer.get("compromisedSince", index + 1), "not active here")
            algorithm, hashed, mac = signer["algorithm"], payload["digestAlgorithm"], signer["algorithm"][:4] == "hmac"
            mu = hashed == "ml-dsa-mu" and algorithm[:6] == "ml-dsa" and kind == "signing.signature.issued"  # the package lacks it
            need(payload["algorithm"] == algorithm and (mac or HASHES.keys() & {algorithm[-6:]} <= {hashed}), "algorithm")
            digest, signature = bytes.fromhex(payload["digest"]), b64(payload["signature"])
            need(payload["digest"] == digest.hex() and len(digest) == (64 if mu else HASHES[hashed].digest_size), "digest")
            message = not mac and payload["operation"] == "sign-message" and algorithm in MESSAGES and not mu  # not on the ledger
            need(payload["operation"] == ("mac" if mac else "sign") or message, "use")
            mac or message or mu or check(signer, digest, signature)
    def registries(self):
        found = [int(name[9:17]) for name in self.found if re.fullmatch(r"registry/\d{8}\.json(\.sig)?", name)]
        for version in sorted({*found, *self.published}):
            file, note = self.read(name := f"registry/{version:08}.json"), self.read(f"{name}.sig")
            digest = sha256(file or b"").hex()
            with self.place(name):
                said = file is not None and (self.published.get(version, digest), json.loads(file)["ledger"]["origin"])
                need(said in (False, (digest, self.origin)), "not what was published")
                text = None if file is None or note is None else open_note(note, self.keys)[0]
                need(text in (None, f"{self.origin}/signers\n{version}\n{digest}\n"), "its note does not sign it")
            if version not in self.published:
                self.missing.append(f"{name}: no entry publishes it")
    def run(self):
        heads = self.checkpoints()
        whole, _ = self.leaves(heads, size := max(heads, default=0)), self.registries()
        for name in sorted(self.found - self.claimed):
            level, number, width = match.groups() if (match := TILE.fullmatch(name)) else ("", "", "")
            at, scale = int(re.sub(r"\D", "", number) or 0), 0 if level == "entries" else 8 * int(level or 0)
            end = (at * 256 + int(width or 256)) << scale
            named = number and path(at) == number and int(width or 0) < 256
            (self.missing if named and (end > size or self.gap) else self.bad).append(f"{name}: not covered")
        for name, signer in self.signers.items() if whole else ():
            if signer.get("activatedIndex", size) < size and name not in self.life or \
                    signer.get("retiredIndex", size) < size and self.life.get(name) is None:
                self.bad.append(f"signer {name}: the ledger does not tell what the registry does")
        checked, unchecked = (sum(getattr(key, which) for key in self.cosigners.values()) for which in ("checked", "unchecked"))
        told = f"{size} leaves, {len(heads)} checkpoints, {checked} signatures of ML-DSA-44 on them verified, {unchecked} not checked"
        print(*self.bad[:1000], *self.missing[:1000], told, sep="\n")
        return 1 if self.bad else 3 if self.missing or not heads else 0
if __name__ == "__main__":
    usage = len(sys.argv) != 4 or sys.argv[2] != "--signers"
    sys.exit(print(__doc__) or 2 if usage else Verifier(sys.argv[1], json.loads(pathlib.Path(sys.argv[3]).read_bytes())).run())
