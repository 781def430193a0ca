// Checkpoints that the ledger signed by Ed25519 and by ML-DSA-44. Where the runtime has the algorithm the second
// signature is real, and a false one refused; where it has not, it is told that nobody looked.

import assert from "node:assert/strict";
import { createHash, createPrivateKey, createPublicKey } from "node:crypto";
import test from "node:test";
import { ReceiptError, RegistryError } from "../src/errors.js";
import type { JsonObject } from "../src/json.js";
import { cosignedMessage, parseVkey, verifyCheckpoint, type NoteKey } from "../src/log.js";
import { verifyReceipt, type Proof } from "../src/receipt.js";
import { SignersRegistry } from "../src/registry.js";
import { readPublicKey } from "../src/signatures.js";
import { MlDsaKey, noteLine, ORIGIN, TestLedger } from "./ledger.js";

const ledger = new TestLedger();
const second = new MlDsaKey();
/** The registry with these vkeys after the Ed25519 one, and other members of `ledger`. */
const file = (vkeys: string[], more: JsonObject = {}): string =>
  ledger.registry((whole) => {
    const own = whole["ledger"] as JsonObject;
    Object.assign(own, { vkeys: [...(own["vkeys"] as string[]), ...vkeys], ...more });
  });
const registry = SignersRegistry.parse(file([second.vkey]));
const good = ledger.receiptOf({ payload: ledger.issued("ed25519") });
const note = String(good["checkpoint"]);
const text = note.slice(0, note.indexOf("\n\n") + 1);
const first = note.slice(text.length + 1);

const proof = (lines: string, by = registry): Proof =>
  verifyReceipt(JSON.stringify({ ...good, checkpoint: `${text}\n${lines}` }), by, "anything");
const refused = (lines: string, what: string, by = registry): void =>
  assert.throws(
    () => proof(lines, by),
    (error) => error instanceof ReceiptError && error.fault === "checkpoint",
    what,
  );
/** SPKI of a key for ML-DSA-44. */
const pem = (raw: Buffer): string => {
  const spki = Buffer.concat([Buffer.from("30820532300b06096086480165030403110382052100", "hex"), raw]);
  const lines = spki.toString("base64").match(/.{1,64}/g)!;
  return `-----BEGIN PUBLIC KEY-----\n${lines.join("\n")}\n-----END PUBLIC KEY-----\n`;
};
const bothSeen = MlDsaKey.isKnown ? [["ed25519", "ml-dsa-44"], []] : [["ed25519"], ["ml-dsa-44"]];

test("a checkpoint's second signature is verified, or named as not verified", (context) => {
  context.diagnostic(`ML-DSA-44 is ${MlDsaKey.isKnown ? "verified" : "not verified"} by ${process.version}`);
  assert.equal(registry.noteKeys[1]?.key !== "unsupported", MlDsaKey.isKnown);
  for (const lines of [first + second.line(text), second.line(text) + first]) {
    const told = proof(lines);
    assert.deepEqual([told.checkpointVerified, told.checkpointUnverified], bothSeen);
  }
  const alone = proof(first);
  assert.deepEqual([alone.checkpointVerified, alone.checkpointUnverified], [["ed25519"], []]);
});

test("lines of strangers are passed over, whatever they are signed by", () => {
  for (const stranger of [new MlDsaKey(), new MlDsaKey("witness.example/w")]) {
    const told = proof(first + stranger.line(text));
    assert.deepEqual([told.checkpointVerified, told.checkpointUnverified], [["ed25519"], []]);
    assert.deepEqual(proof(stranger.line(text) + first + second.line(text)).checkpointUnverified, bothSeen[1]);
  }
  const unknown = SignersRegistry.parse(file([]));
  assert.deepEqual(proof(first + second.line(text), unknown).checkpointUnverified, []);
});

test("a second signature that does not verify refuses the checkpoint", () => {
  const material = second.material(text);
  const flipped = (at: number): string => {
    const other = Buffer.from(material);
    other[at]! ^= 1;
    return noteLine(ORIGIN, other);
  };
  const other = Buffer.concat([second.id, new MlDsaKey().material(text).subarray(4)]);
  const lies: [string, string][] = [
    ["another time", flipped(11)],
    ["another beginning", flipped(12)],
    ["another end", flipped(material.length - 1)],
    ["of another size", second.line(text.replace("\n11\n", "\n12\n"))],
    ["by another key", noteLine(ORIGIN, other)],
  ];
  for (const [what, line] of lies) {
    if (MlDsaKey.isKnown) {
      refused(first + line, what);
      refused(line + first, `${what}, first`);
    } else {
      assert.deepEqual(proof(first + line).checkpointUnverified, ["ml-dsa-44"], what);
    }
  }
});

test("what its shape tells is refused by every runtime", () => {
  const material = second.material(text);
  const shapes: [string, string][] = [
    ["by ML-DSA-44 alone", second.line(text)],
    ["twice", first + second.line(text) + second.line(text)],
    ["cut short", first + noteLine(ORIGIN, material.subarray(0, -1))],
    ["longer", first + noteLine(ORIGIN, Buffer.concat([material, Buffer.of(0)]))],
    ["without a time", first + noteLine(ORIGIN, Buffer.concat([second.id, material.subarray(12)]))],
    ["beyond all times", first + noteLine(ORIGIN, second.material(text, 1n << 63n))],
    ["false by Ed25519", ledger.line(text.replace("\n11\n", "\n12\n")) + second.line(text)],
  ];
  for (const [what, lines] of shapes) refused(lines, what);
});

test("a runtime without the algorithm says so, and nothing else changes", () => {
  const keys: NoteKey[] = registry.noteKeys.map((key) =>
    key.algorithm === "ml-dsa-44" ? { ...key, key: "unsupported" } : key,
  );
  const verdict = (lines: string): unknown => verifyCheckpoint(`${text}\n${lines}`, ORIGIN, keys);
  const told = verdict(first + second.line(text)) as { verified: string[]; unverified: string[] };
  assert.deepEqual([told.verified, told.unverified], [["ed25519"], ["ml-dsa-44"]]);
  assert.equal(typeof verdict(second.line(text)), "string");
  assert.equal(typeof verdict(first + noteLine(ORIGIN, second.material(text).subarray(0, -1))), "string");
});

test("a registry names keys of both kinds, one of Ed25519 at least", () => {
  const whole = JSON.parse(file([second.vkey])) as { ledger: { vkeys: string[] } };
  const logs = whole.ledger.vkeys.map((vkey) => `log ${vkey}\n`);
  const policy = `${logs.join("")}quorum none\n`;
  assert.equal(SignersRegistry.parse(file([second.vkey], { policy })).noteKeys.length, 2);
  assert.ok(registry.isLedgerKey("ledger-v1"));
  const wrong: [string, string][] = [
    ["no Ed25519 key", file([], { vkeys: [second.vkey] })],
    ["another name", file([new MlDsaKey("log.example/other").vkey])],
    ["another key id", file([second.vkey.replace(/\+[0-9a-f]{8}\+/, "+00000000+")])],
    ["cut short", file([second.vkey.slice(0, -4)])],
    ["a policy without the second", file([second.vkey], { policy: `${logs[0]!}quorum none\n` })],
    ["an unknown member", file([second.vkey], { quorum: "any" })],
  ];
  for (const [what, other] of wrong) assert.throws(() => SignersRegistry.parse(other), RegistryError, what);
  // A cosigner's type, with its key id right.
  const material = Buffer.concat([Uint8Array.of(4), second.raw.subarray(0, 32)]);
  const id = createHash("sha256").update(`${ORIGIN}\n`).update(material).digest("hex").slice(0, 8);
  assert.equal(parseVkey(`${ORIGIN}+${id}+${material.toString("base64")}`), undefined);
});

test("a second signature is due while its key is active at the last entry", () => {
  const signer = (key: MlDsaKey, places: JsonObject): JsonObject => ({
    signer_kid: `s-${key.id.toString("hex")}`,
    kid: "second",
    algorithm: "ml-dsa-44",
    public_key_pem: pem(key.raw),
    purpose: "test",
    state: "active",
    description: "",
    ...places,
  });
  const by = (signers: JsonObject[], vkeys = [second.vkey]): SignersRegistry => {
    const whole = JSON.parse(file(vkeys)) as { signers: JsonObject[] };
    whole.signers.push(...signers);
    return SignersRegistry.parse(JSON.stringify(whole));
  };
  // Of eleven entries the last is 10.
  const due: JsonObject[] = [
    { activatedIndex: 10 },
    { activatedIndex: 0, retiredIndex: 11 },
    { activatedIndex: 3, compromisedSince: 11 },
  ];
  for (const places of due) {
    const registry = by([signer(second, places)]);
    refused(first, JSON.stringify(places), registry);
    assert.deepEqual(proof(first + second.line(text), registry).checkpointUnverified, bothSeen[1]);
  }
  const free: JsonObject[] = [
    {},
    { activatedIndex: 11 },
    { activatedIndex: 0, retiredIndex: 10 },
    { activatedIndex: 0, compromisedSince: 10 },
    { activatedIndex: 0, retiredIndex: 11, compromisedSince: 3 },
  ];
  for (const places of free) proof(first, by([signer(second, places)]));
  // One of those that are due will do, one that is not will not.
  const third = new MlDsaKey();
  const both = [second.vkey, third.vkey];
  const active = by([signer(second, { activatedIndex: 0 }), signer(third, { activatedIndex: 4 })], both);
  proof(first + third.line(text), active);
  refused(first, "neither", active);
  const later = by([signer(second, { activatedIndex: 0 }), signer(third, { activatedIndex: 11 })], both);
  refused(first + third.line(text), "not active yet", later);
  // A key that signs no checkpoints asks for none.
  proof(first, by([signer(third, { activatedIndex: 0 })]));
});

// The key of seed 0x44, and what it signs of the checkpoint that C2SP's other vectors are of.
test("the published key and message are these", () => {
  const name = "ledger.example/sign-log/1";
  const root = Buffer.from("sgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=", "base64");
  const time = Buffer.from("00000000641850cb", "hex");
  const sha256 = (bytes: string | Buffer): string => createHash("sha256").update(bytes).digest("hex");
  const message = cosignedMessage(name, time, { origin: name, size: 3, root });
  assert.equal(sha256(message), "e26078c83b93254bd44c7ba777465fc8975421ed3428f13a3eadfe5be4be03b9");
  if (!MlDsaKey.isKnown) return;
  const seed = Buffer.concat([Buffer.from("3034020100300b060960864801650304031104228020", "hex"), Buffer.alloc(32, 0x44)]);
  const key = createPublicKey(createPrivateKey({ key: seed, format: "der", type: "pkcs8" }));
  const raw = key.export({ type: "spki", format: "der" }).subarray(-1312);
  assert.equal(sha256(raw), "a697433bb609d9b503f4c8ae6382c38931d326bf5c2f8f03a332d30fac39048c");
  const vkey = `${name}+1bc8a740+${Buffer.concat([Buffer.of(6), raw]).toString("base64")}`;
  assert.equal(sha256(vkey), "563668c43f53f3c58cef2ba60e9bd46c7801eece22aa8732a8bb1e8ec2fff1a6");
  assert.equal(parseVkey(vkey)?.id, "1bc8a740");
});

test("a key for ML-DSA-44 can be a signer's in every runtime", () => {
  const key = readPublicKey("ml-dsa-44", pem(second.raw));
  assert.equal(typeof key, MlDsaKey.isKnown ? "object" : "string");
  if (!MlDsaKey.isKnown) assert.equal(key, "unsupported");
});
