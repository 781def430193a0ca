// A small ledger, made at test time with keys that live as long as the test: what a service could hand out,
// honest or not. Trees and proofs are those of RFC 6962's definitions, not of the code under test.

import { createHash, generateKeyPairSync, randomBytes, sign, constants, type KeyObject } from "node:crypto";
import { canonical, type Json, type JsonObject } from "../src/json.js";
import { idOf } from "../src/leaf.js";

export const ORIGIN = "log.example/test";
export const MESSAGE = Buffer.from("what is signed");

const sha256 = (...parts: (string | Uint8Array)[]): Buffer =>
  createHash("sha256")
    .update(Buffer.concat(parts.map((part) => Buffer.from(part))))
    .digest();

/** MTH of RFC 6962 §2.1, by its definition. */
export function treeHash(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256("");
  if (leaves.length === 1) return sha256(Uint8Array.of(0), leaves[0]!);
  const split = splitOf(leaves.length);
  return sha256(Uint8Array.of(1), treeHash(leaves.slice(0, split)), treeHash(leaves.slice(split)));
}

/** PATH of RFC 6962 §2.1.1, by its definition. */
export function path(at: number, leaves: readonly Buffer[]): Buffer[] {
  if (leaves.length <= 1) return [];
  const split = splitOf(leaves.length);
  return at < split
    ? [...path(at, leaves.slice(0, split)), treeHash(leaves.slice(split))]
    : [...path(at - split, leaves.slice(split)), treeHash(leaves.slice(0, split))];
}

function splitOf(count: number): number {
  let split = 1;
  while (2 * split < count) split *= 2;
  return split;
}

export interface Pair {
  readonly algorithm: string;
  readonly publicKey: KeyObject | undefined;
  /** A signature over the digest of {@link MESSAGE}; Ed25519 takes any digest. */
  readonly sign: (digestAlgorithm?: string) => Buffer;
  readonly digestAlgorithm: string;
}

function pair(algorithm: string, keys: { publicKey: KeyObject; privateKey: KeyObject }, options: object = {}): Pair {
  const digestAlgorithm = /sha(?:256|384|512)$/.exec(algorithm)?.[0] ?? "sha256";
  const make =
    algorithm === "ed25519"
      ? (hash = digestAlgorithm) => sign(null, createHash(hash).update(MESSAGE).digest(), keys.privateKey)
      : () => sign(digestAlgorithm, MESSAGE, { key: keys.privateKey, ...options });
  return { algorithm, publicKey: keys.publicKey, digestAlgorithm, sign: make };
}

/** DER with the lower s, which secp256k1's users insist on. */
function lowS(make: () => Buffer): Buffer {
  for (;;) {
    const der = make();
    // The last 32 bytes are s unless it has a leading zero, and then it is the higher one.
    if (der[der.length - 33] === 32 && der[der.length - 32]! < 0x7f) return der;
  }
}

export function pairs(): Map<string, Pair> {
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING };
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const k1 = pair("ecdsa-secp256k1-sha256", generateKeyPairSync("ec", { namedCurve: "secp256k1" }));
  const all: Pair[] = [
    pair("ed25519", generateKeyPairSync("ed25519")),
    pair("ecdsa-p256-sha256", generateKeyPairSync("ec", { namedCurve: "P-256" })),
    pair("ecdsa-p384-sha384", generateKeyPairSync("ec", { namedCurve: "P-384" })),
    { ...k1, sign: () => lowS(k1.sign) },
    ...["sha256", "sha384", "sha512"].map((hash) => pair(`rsa-${hash}`, rsa)),
    ...[
      ["sha256", 32],
      ["sha384", 48],
      ["sha512", 64],
    ].map(([hash, saltLength]) => pair(`rsa-pss-${hash}`, rsa, { ...pss, saltLength })),
    { algorithm: "hmac-sha256", publicKey: undefined, digestAlgorithm: "sha256", sign: () => Buffer.alloc(32, 7) },
  ];
  return new Map(all.map((one) => [one.algorithm, one]));
}

/** An ML-DSA-44 key under a name: a real one where the runtime has it, else bytes of the right lengths. */
export class MlDsaKey {
  private readonly keys = MlDsaKey.generate();
  readonly raw = this.keys?.publicKey.export({ type: "spki", format: "der" }).subarray(-1312) ?? randomBytes(1312);
  readonly id: Buffer;

  constructor(readonly name = ORIGIN) {
    this.id = sha256(name, "\n\x06", this.raw).subarray(0, 4);
  }

  /** Whether this runtime signs and verifies by ML-DSA-44. */
  static get isKnown(): boolean {
    return MlDsaKey.generate() !== undefined;
  }

  private static generate(): { publicKey: KeyObject; privateKey: KeyObject } | undefined {
    try {
      return generateKeyPairSync("ml-dsa-44" as "ed25519");
    } catch {
      return undefined;
    }
  }

  get vkey(): string {
    const material = Buffer.concat([Uint8Array.of(6), this.raw]);
    return `${this.name}+${this.id.toString("hex")}+${material.toString("base64")}`;
  }

  /** What stands in a line below this text: key id, time, signature. */
  material(text: string, time = 1_800_000_000n): Buffer {
    const [origin, size, root] = text.split("\n") as [string, string, string];
    const [name, seconds, end] = [Buffer.from(this.name), Buffer.alloc(8), Buffer.alloc(8)];
    seconds.writeBigUInt64BE(time);
    end.writeBigUInt64BE(BigInt(size));
    // As C2SP tlog-cosignature has it: label, name, time, origin, first leaf, end, root.
    const parts = [Buffer.from("subtree/v1\n\0"), Buffer.of(name.length), name, seconds];
    parts.push(Buffer.of(origin.length), Buffer.from(origin), Buffer.alloc(8), end, Buffer.from(root, "base64"));
    const signature = this.keys ? sign(null, Buffer.concat(parts), this.keys.privateKey) : randomBytes(2420);
    return Buffer.concat([this.id, seconds, signature]);
  }

  line(text: string): string {
    return noteLine(this.name, this.material(text));
  }
}

/** A line of a note. */
export function noteLine(name: string, material: Uint8Array): string {
  return `\u2014 ${name} ${Buffer.from(material).toString("base64")}\n`;
}

/** Draft of a leaf: what stands in it beside its place. */
export type Draft = JsonObject;

export class TestLedger {
  readonly keys = generateKeyPairSync("ed25519");
  readonly pairs = pairs();
  private readonly raw = this.keys.publicKey.export({ type: "spki", format: "der" }).subarray(-32);
  private readonly keyId = sha256(ORIGIN, "\n\x01", this.raw).subarray(0, 4);

  /** The registry; `change` may alter it first. */
  registry(change: (file: JsonObject, signer: (kid: string) => JsonObject) => void = () => undefined): string {
    const vkey = `${ORIGIN}+${this.keyId.toString("hex")}+${Buffer.concat([Uint8Array.of(1), this.raw]).toString("base64")}`;
    const record = (kid: string, algorithm: string, publicKey: KeyObject | undefined): JsonObject => ({
      signer_kid: `${kid}-v1`,
      kid,
      algorithm,
      purpose: "test",
      state: "active",
      deployedAt: "2026-01-01T00:00:00.000Z",
      activatedIndex: 1,
      description: "",
      ...(publicKey === undefined
        ? {}
        : { public_key_pem: publicKey.export({ type: "spki", format: "pem" }).toString() }),
    });
    const signers = [
      record("ledger", "ed25519", this.keys.publicKey),
      ...[...this.pairs.values()].map((one) => record(one.algorithm, one.algorithm, one.publicKey)),
    ];
    const file: JsonObject = { version: 1, ledger: { origin: ORIGIN, vkeys: [vkey] }, signers };
    change(file, (kid) => signers.find((one) => one["kid"] === kid)!);
    return JSON.stringify(file, undefined, 2);
  }

  /** The payload of a signature by the key of that algorithm, over {@link MESSAGE}. */
  issued(algorithm: string, hash?: string): JsonObject {
    const pair = this.pairs.get(algorithm)!;
    const digestAlgorithm = hash ?? pair.digestAlgorithm;
    return {
      algorithm,
      digest: createHash(digestAlgorithm).update(MESSAGE).digest("hex"),
      digestAlgorithm,
      kid: algorithm,
      metadata: { order: 17 },
      operation: algorithm.startsWith("hmac") ? "mac" : "sign",
      policy: { rule: "r", sha256: "00".repeat(32) },
      purpose: "shipping",
      release: "durable",
      requestId: "r-1",
      signature: pair.sign(digestAlgorithm).toString("base64"),
      signer_kid: `${algorithm}-v1`,
    };
  }

  /** A leaf at `index`, its own hash in it. */
  leaf(draft: Draft, index: number): JsonObject {
    const event: JsonObject = {
      actor: "svc",
      eventType: "signing.signature.issued",
      id: idOf(ORIGIN, index),
      prevHash: "11".repeat(32),
      seq: 3,
      signer_kid: "ledger-v1",
      stream: "svc",
      ts: "2026-11-21T03:46:35.120Z",
      version: 1,
      ...draft,
    };
    delete event["hash"];
    return { ...event, hash: sha256(canonical(event)).toString("hex") };
  }

  /** A receipt for `event` at `index` of a tree of `size`, as the holder of the ledger's key can always make one. */
  receipt(event: JsonObject, index: number, size: number): JsonObject {
    const leaves = Array.from({ length: size }, (_, at) => Buffer.from(at === index ? canonical(event) : `leaf ${at}`));
    const hashes = path(index, leaves).map((hash) => hash.toString("hex"));
    return {
      version: 1,
      event,
      index,
      treeSize: size,
      inclusionProof: hashes,
      checkpoint: this.note(`${ORIGIN}\n${size}\n${treeHash(leaves).toString("base64")}\n`),
      rung: "checkpointed",
    };
  }

  /** The same for a draft. */
  receiptOf(draft: Draft, index = 5, size = 11): JsonObject {
    return this.receipt(this.leaf(draft, index), index, size);
  }

  note(text: string): string {
    return `${text}\n${this.line(text)}`;
  }

  /** The line by Ed25519. */
  line(text: string): string {
    return noteLine(ORIGIN, Buffer.concat([this.keyId, sign(null, Buffer.from(text), this.keys.privateKey)]));
  }
}

/** Every way to damage one value of a document, by its path: each gives a copy with that damage. */
export function* damages(document: Json, at: (string | number)[] = []): Generator<[string, Json]> {
  const value = at.reduce<Json>((holder, name) => (holder as JsonObject)[name]!, document);
  const put = (replacement: Json | undefined): Json => {
    const copy = structuredClone(document);
    const holder = at.slice(0, -1).reduce<Json>((into, name) => (into as JsonObject)[name]!, copy) as JsonObject;
    const name = at.at(-1)!;
    if (replacement === undefined) delete holder[name];
    else holder[name] = replacement;
    return copy;
  };
  const where = at.join(".");
  if (at.length > 0) {
    yield [
      `${where} removed`,
      Array.isArray(at.slice(0, -1).reduce<Json>((holder, name) => (holder as JsonObject)[name]!, document))
        ? put([])
        : put(undefined),
    ];
    yield [`${where} of another type`, put(typeof value === "string" ? 7 : "seven")];
  }
  if (typeof value === "string") {
    for (const position of [0, value.length >> 1, value.length - 1]) {
      const other = value[position] === "0" ? "1" : "0";
      yield [`${where} altered at ${position}`, put(value.slice(0, position) + other + value.slice(position + 1))];
    }
    yield [`${where} cut`, put(value.slice(0, -1))];
    yield [`${where} extended`, put(`${value}0`)];
  } else if (typeof value === "number") {
    for (const other of [value + 1, value - 1, -value, value + 0.5])
      if (other !== value) yield [`${where} ${other}`, put(other)];
  } else if (Array.isArray(value)) {
    yield [`${where} extended`, put([...value, value[0] ?? "00".repeat(32)])];
    yield [`${where} shortened`, put(value.slice(1))];
    if (value.length > 1) yield [`${where} reversed`, put([...value].reverse())];
    for (let position = 0; position < value.length; position += 1) yield* damages(document, [...at, position]);
  } else if (typeof value === "object" && value !== null) {
    if (at.length > 0) yield [`${where} with another member`, put({ ...value, more: 1 })];
    for (const name of Object.keys(value)) yield* damages(document, [...at, name]);
  }
}
