// A little ledger for tests of the page, after ledger/format/FORMAT.md: its own leaves, tree, checkpoints, registry and
// receipts, under keys made at run time. It writes whatever it is told, so that it can also play the forger who has the
// ledger's key. It shares nothing with the page.

import * as crypto from "node:crypto";

export const sha = (name, ...parts) => parts.reduce((hash, part) => hash.update(part), crypto.createHash(name)).digest();
const sha256 = (...parts) => sha("sha256", ...parts);

/** RFC 8785 of plain values. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const names = Object.keys(value).filter((name) => value[name] !== undefined).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`).join(",")}}`;
}

// ---- Tree

const split = (count) => 2 ** Math.floor(Math.log2(count - 1));
function rootOf(leaves) {
  if (leaves.length === 0) return sha256("");
  if (leaves.length === 1) return sha256(Buffer.of(0), leaves[0]);
  const at = split(leaves.length);
  return sha256(Buffer.of(1), rootOf(leaves.slice(0, at)), rootOf(leaves.slice(at)));
}
function proofOf(index, leaves) {
  if (leaves.length === 1) return [];
  const at = split(leaves.length);
  return index < at ? [...proofOf(index, leaves.slice(0, at)), rootOf(leaves.slice(at))]
    : [...proofOf(index - at, leaves.slice(at)), rootOf(leaves.slice(0, at))];
}

/** RFC 6962 §2.1.2, by its definition. */
function consistencyOf(old, leaves, isWhole = true) {
  if (old === leaves.length) return isWhole ? [] : [rootOf(leaves)];
  const at = split(leaves.length);
  return old <= at ? [...consistencyOf(old, leaves.slice(0, at), isWhole), rootOf(leaves.slice(at))]
    : [...consistencyOf(old - at, leaves.slice(at), false), rootOf(leaves.slice(0, at))];
}

// ---- Keys

export const pemOf = (key) => key.export({ type: "spki", format: "pem" });
export const rawOf = (key) => key.export({ type: "spki", format: "der" }).subarray(-32);
const pair = (type, options) => crypto.generateKeyPairSync(type, options);

const SECP256K1_ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
export const derNumber = (number) => {
  let hex = number.toString(16);
  hex = hex.length % 2 ? `0${hex}` : hex;
  const bytes = Buffer.from(parseInt(hex.slice(0, 2), 16) >= 0x80 ? `00${hex}` : hex, "hex");
  return Buffer.concat([Buffer.of(2, bytes.length), bytes]);
};
export const derOf = (r, s) => {
  const body = Buffer.concat([derNumber(r), derNumber(s)]);
  return Buffer.concat([Buffer.of(0x30, body.length), body]);
};
export const numbersOf = (der) => {
  const size = der[3], number = (bytes) => BigInt(`0x${bytes.toString("hex")}`);
  return [number(der.subarray(4, 4 + size)), number(der.subarray(6 + size))];
};
/** The other signature that FIPS 186-5 allows. */
export const otherS = (der, order) => { const [r, s] = numbersOf(der); return derOf(r, order - s); };
export const ORDERS = { p256: P256_ORDER, secp256k1: SECP256K1_ORDER };

/** Ed25519ph of RFC 8032 §5.1 over a message, no context; Node has none. */
function signPrehashed(key, message) {
  const p = 2n ** 255n - 19n, order = 2n ** 252n + 27742317777372353535851937790883648493n;
  const mod = (value, by = p) => ((value % by) + by) % by;
  const pow = (base, exponent) => { let out = 1n; for (let b = mod(base), e = exponent; e > 0n; e >>= 1n, b = b * b % p) if (e & 1n) out = out * b % p; return out; };
  const invert = (value) => pow(value, p - 2n);
  const d = mod(-121665n * invert(121666n));
  const add = ([x1, y1], [x2, y2]) => {
    const t = mod(d * x1 * x2 * y1 * y2);
    return [mod((x1 * y2 + x2 * y1) * invert(1n + t)), mod((y1 * y2 + x1 * x2) * invert(1n - t))];
  };
  const base = [15112221349535400772501151409588531511454012693041857206046113283949847762202n, mod(4n * invert(5n))];
  const times = (scalar) => { let sum = [0n, 1n]; for (let bits = scalar, point = base; bits > 0n; bits >>= 1n, point = add(point, point)) if (bits & 1n) sum = add(sum, point); return sum; };
  const little = (bytes) => BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`);
  const bytes = (number) => Buffer.from(number.toString(16).padStart(64, "0"), "hex").reverse();
  const encode = ([x, y]) => bytes(y | ((x & 1n) << 255n));
  const seed = key.export({ type: "pkcs8", format: "der" }).subarray(-32), expanded = sha("sha512", seed);
  const head = Buffer.from(expanded.subarray(0, 32));
  head[0] &= 248; head[31] &= 127; head[31] |= 64;
  const secret = little(head), publicKey = encode(times(secret));
  const prefix = Buffer.concat([Buffer.from("SigEd25519 no Ed25519 collisions"), Buffer.of(1, 0)]), hashed = sha("sha512", message);
  const r = mod(little(sha("sha512", prefix, expanded.subarray(32), hashed)), order), atR = encode(times(r));
  const k = mod(little(sha("sha512", prefix, atR, publicKey, hashed)), order);
  return Buffer.concat([atR, bytes(mod(r + k * secret, order))]);
}

/** For each algorithm: how its key is made, and what it signs, given the message whose digest is recorded. */
const MAKERS = {
  "ed25519": () => ed25519((key, message, hash) => crypto.sign(null, sha(hash, message), key)),
  "ed25519ph": () => ed25519((key, message) => signPrehashed(key, sha("sha512", message)), "sha512"),
  "ecdsa-p256-sha256": () => hashing(pair("ec", { namedCurve: "P-256" }), "sha256"),
  "ecdsa-p384-sha384": () => hashing(pair("ec", { namedCurve: "P-384" }), "sha384"),
  "ecdsa-secp256k1-sha256": () => {
    const { hash, publicPem, sign } = hashing(pair("ec", { namedCurve: "secp256k1" }), "sha256");
    const lower = (der) => (numbersOf(der)[1] > SECP256K1_ORDER / 2n ? otherS(der, SECP256K1_ORDER) : der);
    return { hash, publicPem, sign: (message) => lower(sign(message)) };
  },
};
function ed25519(signing, hash = "sha256") {
  const { publicKey, privateKey } = pair("ed25519");
  return { hash, publicPem: pemOf(publicKey), raw: rawOf(publicKey), privateKey, sign: (message, digestAlgorithm = hash) => signing(privateKey, message, digestAlgorithm) };
}
function hashing({ publicKey, privateKey }, hash, options = {}) {
  return { hash, publicPem: pemOf(publicKey), sign: (message) => crypto.sign(hash, message, { key: privateKey, ...options }) };
}
for (const [hash, bits] of [["sha256", 2048], ["sha384", 3072], ["sha512", 2049]]) {
  const salt = { sha256: 32, sha384: 48, sha512: 64 }[hash], rsa = () => pair("rsa", { modulusLength: bits });
  MAKERS[`rsa-${hash}`] = () => hashing(rsa(), hash);
  MAKERS[`rsa-pss-${hash}`] = () => hashing(rsa(), hash, { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: salt });
  MAKERS[`hmac-${hash}`] = () => {
    const secret = crypto.randomBytes(32);
    return { hash: "sha256", operation: "mac", sign: (message) => crypto.createHmac(hash, secret).update(message).digest() };
  };
}
export const ALGORITHMS = Object.keys(MAKERS);
export const makeKey = (algorithm) => MAKERS[algorithm]();

// ---- Notes

const keyId = (name, raw, type = 1) => sha256(name, "\n", Buffer.of(type), raw).subarray(0, 4);
export const vkeyOf = (name, raw, type = 1) => `${name}+${keyId(name, raw, type).toString("hex")}+${Buffer.concat([Buffer.of(type), raw]).toString("base64")}`;
const u64 = (number) => { const bytes = Buffer.alloc(8); bytes.writeBigUInt64BE(BigInt(number)); return bytes; };
const short = (text) => Buffer.concat([Buffer.of(Buffer.byteLength(text)), Buffer.from(text)]);

/** Signs checkpoints as a witness does, or, with its ledger's name, as a ledger does with ML-DSA-44. */
export class Cosigner {
  /** `mlDsa` is `{ raw, signMessage }`; without it, a new Ed25519 key. */
  constructor(name, mlDsa = undefined) {
    const key = mlDsa ?? makeKey("ed25519");
    Object.assign(this, { name, type: mlDsa ? 6 : 4, raw: key.raw, signs: mlDsa ? mlDsa.signMessage : (message) => crypto.sign(null, message, key.privateKey) });
  }

  get vkey() {
    return vkeyOf(this.name, this.raw, this.type);
  }

  /** What it signs of a checkpoint's text, C2SP tlog-cosignature. */
  message(body, time) {
    if (this.type === 4) return Buffer.from(`cosignature/v1\ntime ${time}\n${body}`);
    const [origin, size, root] = body.split("\n");
    return Buffer.concat([Buffer.from("subtree/v1\n\0"), short(this.name), u64(time), short(origin), u64(0), u64(size), Buffer.from(root, "base64")]);
  }

  async line(body, { time = 1_795_000_000, change = (bytes) => bytes, of = body } = {}) {
    const signature = Buffer.from(await this.signs(this.message(of, time)));
    return noteLine(this.name, keyId(this.name, this.raw, this.type), change(Buffer.concat([u64(time), signature])));
  }
}

/** A policy of one log and these witnesses, of whom `quorum` must have cosigned. */
export function policyOf(vkeys, witnesses, quorum = "all") {
  const lines = [...vkeys.map((vkey) => `log ${vkey}`), ...witnesses.map(({ vkey }, at) => `witness w${at} ${vkey}`)];
  if (witnesses.length > 0) lines.push(`group g ${quorum} ${witnesses.map((_, at) => `w${at}`).join(" ")}`);
  return `${lines.join("\n")}\nquorum ${witnesses.length > 0 ? "g" : "none"}\n`;
}

// ---- CBOR, as far as COSE receipts need it

const head = (kind, count) => {
  const value = BigInt(count), at = value < 24n ? -1 : [0x100n, 0x10000n, 0x100000000n, 1n << 64n].findIndex((most) => value < most);
  const bytes = at < 0 ? [] : [...Buffer.from(value.toString(16).padStart(2 << at, "0"), "hex")];
  return Buffer.of((kind << 5) | (at < 0 ? Number(value) : 24 + at), ...bytes);
};
export const cbor = {
  number: (value) => (BigInt(value) < 0n ? head(1, -1n - BigInt(value)) : head(0, value)),
  bytes: (value) => Buffer.concat([head(2, value.length), value]),
  text: (value) => Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)]),
  list: (...items) => Buffer.concat([head(4, items.length), ...items]),
  map: (...pairs) => Buffer.concat([head(5, pairs.length), ...pairs.flat()]),
  tag: (number, item) => Buffer.concat([head(6, number), item]),
  null: Buffer.of(0xf6),
};
export const noteLine = (name, id, signature) => `\u2014 ${name} ${Buffer.concat([id, signature]).toString("base64")}\n`;
/** A line that looks like a witness's. */
export const strangersLine = (name = "witness.example/w1") => noteLine(name, crypto.randomBytes(4), crypto.randomBytes(72));

// ---- Ledger

export class Ledger {
  constructor(origin = "log.example/chancery") {
    this.origin = origin;
    this.leaves = [];
    this.streams = new Map();
    this.signers = [];
    this.ledgerKeys = [];
    this.mlDsaKeys = [];
    this.clock = Date.parse("2026-11-21T03:46:35.120Z");
    const first = this.addLedgerKey("ledger-v1");
    this.own("ledger.opened", { formatVersion: 1, origin });
    this.activate(first);
  }

  addLedgerKey(name) {
    const key = { name, algorithm: "ed25519", kid: undefined, record: {}, ...makeKey("ed25519") };
    this.signers.push(key);
    this.ledgerKeys.push(key);
    return key;
  }

  /** A key pair, staged; `activate` lets it sign. `made` is one made elsewhere. */
  addSigner(algorithm, name = `${algorithm}-v1`, made = undefined) {
    const key = { name, kid: name.replace(/-v\d+$/, ""), algorithm, record: {}, ...(made ?? makeKey(algorithm)) };
    this.signers.push(key);
    return key;
  }

  activate(key) {
    const { name, kid, algorithm, publicPem } = key;
    key.record.activatedIndex = this.own("signer.activated", {
      algorithm, birth: { origin: "generated" }, kid, public_key_pem: publicPem, purpose: "signing", signer_kid: name,
    });
    return key;
  }

  own(eventType, payload) {
    return this.append({ eventType, actor: "chancery", stream: "chancery", payload });
  }

  idOf(index) {
    const tag = sha256(this.origin).toString("hex", 0, 6), low = index.toString(16).padStart(12, "0");
    return `${tag.slice(0, 8)}-${tag.slice(8)}-8000-8000-${low}`;
  }

  /** Adds a leaf; whatever `draft` says is written, right or wrong. Returns its index. */
  append(draft) {
    const index = this.leaves.length, link = this.streams.get(draft.stream) ?? { seq: 0, hash: null };
    this.clock += 1_000;
    const event = {
      id: this.idOf(index), prevHash: link.hash, seq: link.seq, signer_kid: this.ledgerKeys.at(-1).name,
      ts: new Date(this.clock).toISOString(), version: 1, ...draft,
    };
    event.hash ??= sha256(canonical({ ...event, hash: undefined })).toString("hex");
    this.streams.set(draft.stream, { seq: link.seq + 1, hash: event.hash });
    this.leaves.push(Buffer.from(canonical(event)));
    return index;
  }

  /** The payload of an issued signature over a message's digest. */
  async payload(key, message, changes = {}) {
    const operation = changes.operation ?? key.operation ?? "sign", digestAlgorithm = changes.digestAlgorithm ?? key.hash;
    // Node has no ML-DSA representative; the test that names one says its bytes itself.
    const hash = digestAlgorithm === "ml-dsa-mu" ? "sha512" : digestAlgorithm;
    const one = async (which) => Buffer.from(await (operation === "sign-message" ? which.signMessage(message) : which.sign(message, hash))).toString("base64");
    const { coSigner, ...rest } = changes;
    return {
      algorithm: key.algorithm, digest: sha(hash, message).toString("hex"), digestAlgorithm, kid: key.kid,
      metadata: { order: "A-17", note: "été ✓" }, operation, policy: { rule: "orders may sign", sha256: "ab".repeat(32) },
      purpose: "orders", release: "checkpointed", requestId: "req-0001", signature: await one(key), signer_kid: key.name,
      idempotencyKey: "order-A-17", requestSha256: "cd".repeat(32), dialect: { name: "aws-kms", peerUid: 1000, ts: "2026-11-21T03:46:35.120Z" },
      ...(coSigner && { coSigner: { algorithm: coSigner.algorithm, kid: coSigner.kid, signature: await one(coSigner), signer_kid: coSigner.name } }),
      ...rest,
    };
  }

  async issue(key, message, changes = {}, event = {}) {
    const payload = await this.payload(key, message, changes);
    return this.append({ eventType: "signing.signature.issued", actor: "spiffe://demo.example/orders", stream: "orders", payload, ...event });
  }

  checkpoint({ size = this.leaves.length, keys = [this.ledgerKeys.at(-1)], origin = this.origin, lines = [], text = undefined } = {}) {
    const body = text ?? `${origin}\n${size}\n${rootOf(this.leaves.slice(0, size)).toString("base64")}\n`;
    return `${body}\n${this.signatureLines(body, keys, origin)}${lines.join("")}`;
  }

  signatureLines(body, keys, name = this.origin) {
    return keys.map((key) => noteLine(name, keyId(name, key.raw), crypto.sign(null, Buffer.from(body), key.privateKey))).join("");
  }

  /** A receipt as an object; `text` it to give it to somebody. */
  receipt(index, options = {}) {
    const size = options.size ?? this.leaves.length;
    return {
      version: 1, event: JSON.parse(this.leaves[index].toString()), index, treeSize: size,
      inclusionProof: proofOf(index, this.leaves.slice(0, size)).map((hash) => hash.toString("hex")),
      checkpoint: this.checkpoint({ ...options, size }), rung: "checkpointed",
    };
  }

  /** The registry as an object. */
  registry() {
    const signers = this.signers.map(({ name, kid, algorithm, publicPem, record }) => ({
      signer_kid: name, kid, algorithm, public_key_pem: publicPem, purpose: "signing",
      state: record.activatedIndex === undefined ? "staged" : "active", deployedAt: "2026-11-21T03:46:35.120Z", description: "made by a test", ...record,
    }));
    return { version: 1, ledger: { origin: this.origin, vkeys: this.vkeys() }, signers };
  }

  vkeys() {
    return [...this.ledgerKeys.map(({ raw }) => vkeyOf(this.origin, raw)), ...this.mlDsaKeys.map(({ vkey }) => vkey)];
  }

  // ---- Evidence

  /** The ledger's ML-DSA-44 key: its checkpoints have a line more from here on. */
  addMlDsaKey(mlDsa) {
    this.mlDsaKeys.push(new Cosigner(this.origin, mlDsa));
  }

  /** The same, registered as a signer: from the entry that activates it on, no checkpoint is without its line. */
  activateMlDsaKey(mlDsa, name = "ledger-pq-v1") {
    this.addMlDsaKey(mlDsa);
    return this.activate(this.addSigner("ml-dsa-44", name, mlDsa));
  }

  /** The entry that publishes the registry as it is, and the file. */
  publish(version = 1, file = JSON.stringify(this.registry(), null, 2)) {
    const index = this.append({ eventType: "registry.published", actor: "chancery", stream: "chancery", payload: { sha256: sha256(file).toString("hex"), version } });
    return { index, file };
  }

  body(size = this.leaves.length) {
    return `${this.origin}\n${size}\n${rootOf(this.leaves.slice(0, size)).toString("base64")}\n`;
  }

  /** A checkpoint by all keys of the ledger, cosigned by these. */
  async cosigned(size, witnesses = [], { keys, mlDsa = this.mlDsaKeys, lines = [] } = {}) {
    const body = this.body(size), more = [];
    for (const cosigner of [...mlDsa, ...witnesses]) more.push(await cosigner.line(body));
    return this.checkpoint({ size, keys, lines: [...more, ...lines] });
  }

  proof(index, size) {
    return proofOf(index, this.leaves.slice(0, size));
  }

  tlogProof(index, size, note) {
    return `c2sp.org/tlog-proof@v1\nindex ${index}\n${this.proof(index, size).map((hash) => `${hash.toString("base64")}\n`).join("")}\n${note}`;
  }

  /** A COSE receipt of an entry; `changes` makes it one that no ledger gives out. */
  async cose(index, size, { algorithm = -8, origin = this.origin, key = this.ledgerKeys.at(-1), root = rootOf(this.leaves.slice(0, size)), claimed = size, place = index, path = this.proof(index, size), protects = undefined, proofs = undefined, signature = undefined } = {}) {
    const { number, bytes, text, list, map, tag } = cbor;
    const header = protects ?? map([number(1), number(algorithm)], [number(15), map([number(1), text(origin)], [number(-65537), number(claimed)])], [number(395), number(1)]);
    const message = list(text("Signature1"), bytes(header), bytes(Buffer.alloc(0)), bytes(root));
    const signed = signature ?? (algorithm === -48 ? Buffer.from(await this.mlDsaKeys.at(-1).signs(message)) : crypto.sign(null, message, key.privateKey));
    const proof = list(number(claimed), number(place), list(...path.map((hash) => bytes(hash))));
    return tag(18, list(bytes(header), proofs ?? map([number(396), map([number(-1), list(bytes(proof))])]), cbor.null, bytes(signed)));
  }

  /** The members of an `.evidence` file, as an object. */
  evidence(index, published, { size, note, cose, policy, archive, renewals = [], registryNote = note, registrySize = size }) {
    return {
      version: 1, event: JSON.parse(this.leaves[index].toString()), proof: this.tlogProof(index, size, note), ...(cose && { cose: cose.toString("base64") }),
      registry: { file: published.file, event: JSON.parse(this.leaves[published.index].toString()), proof: this.tlogProof(published.index, registrySize, registryNote) },
      ...(policy && { policy }), ...(archive && { archive }), renewals,
    };
  }

  renewal(index, published, { before, size, note, policy, newer }) {
    const hex = (hashes) => hashes.map((hash) => hash.toString("hex"));
    return {
      checkpoint: note, inclusionProof: hex(this.proof(index, size)), registryProof: hex(this.proof(published.index, size)), consistencyProof: hex(consistencyOf(before, this.leaves.slice(0, size))),
      ...(newer && { registry: { file: newer.file, event: JSON.parse(this.leaves[newer.index].toString()), index: newer.index, inclusionProof: hex(this.proof(newer.index, size)) } }), ...(policy && { policy }),
    };
  }

  /** `signers.json.sig` over these bytes. */
  registryNote(bytes, { version = 3, keys = [this.ledgerKeys.at(-1)], origin = this.origin } = {}) {
    const body = `${origin}/signers\n${version}\n${sha256(bytes).toString("hex")}\n`;
    return `${body}\n${this.signatureLines(body, keys, origin)}`;
  }
}

/** The one line that clients get, with the leaf's own bytes as the event. */
export const textOf = (receipt) => {
  const { event, ...rest } = receipt;
  const text = JSON.stringify({ version: 1, event: "\u0000", ...rest });
  return text.replace('"\\u0000"', () => canonical(event));
};
