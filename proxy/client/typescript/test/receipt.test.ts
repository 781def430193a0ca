// Receipts: every algorithm's is accepted, and every damage refused, by an honest service or one that lies.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import type { SignRequest } from "../src/api.js";
import { ReceiptError, RegistryError, type ReceiptFault } from "../src/errors.js";
import type { JsonObject } from "../src/json.js";
import { verifyReceipt, type Asked } from "../src/receipt.js";
import { SignersRegistry } from "../src/registry.js";
import { damages, MESSAGE, ORIGIN, TestLedger } from "./ledger.js";

const ledger = new TestLedger();
const registry = SignersRegistry.parse(ledger.registry());
const DIGEST = createHash("sha256").update(MESSAGE).digest("hex");

function asked(algorithm: string, more: Partial<SignRequest> = {}): Asked {
  const { digestAlgorithm } = ledger.pairs.get(algorithm)!;
  const digest = createHash(digestAlgorithm).update(MESSAGE).digest("hex");
  return {
    sign: {
      kid: algorithm,
      digest,
      digestAlgorithm: digestAlgorithm as "sha256",
      purpose: "shipping",
      metadata: { order: 17 },
      ...more,
    },
  };
}

function refused(receipt: unknown, by: SignersRegistry, what: Asked, fault: ReceiptFault, message: string): void {
  const text = typeof receipt === "string" ? receipt : JSON.stringify(receipt);
  assert.throws(
    () => verifyReceipt(text, by, what),
    (error) => error instanceof ReceiptError && error.fault === fault,
    message,
  );
}

/** A receipt that is right in all but what the lie says: whoever holds the ledger's key can make it. */
function lie(change: (event: JsonObject, payload: JsonObject) => void, algorithm = "ed25519"): JsonObject {
  const draft: JsonObject = { payload: ledger.issued(algorithm) };
  change(draft, draft["payload"] as JsonObject);
  return ledger.receiptOf(draft);
}

test("every algorithm's receipt is accepted, at every place of a tree", () => {
  for (const algorithm of ledger.pairs.keys()) {
    const mac = algorithm.startsWith("hmac");
    const payload = ledger.issued(algorithm);
    if (mac) for (const name of ["metadata", "purpose"]) delete payload[name];
    const what: Asked = mac ? { mac: { kid: algorithm, message: MESSAGE } } : asked(algorithm);
    const proof = verifyReceipt(JSON.stringify(ledger.receiptOf({ payload })), registry, what);
    assert.deepEqual(
      [proof.index, proof.treeSize, proof.origin, proof.signature],
      [5, 11, ORIGIN, payload["signature"]],
    );
    assert.deepEqual(proof.signers, mac ? [] : [`${algorithm}-v1`]);
  }
  const payload = ledger.issued("ed25519");
  for (const size of [2, 3, 7, 8, 9, 33]) {
    for (let index = 1; index < size; index += 1) {
      assert.equal(
        verifyReceipt(JSON.stringify(ledger.receiptOf({ payload }, index, size)), registry, asked("ed25519")).index,
        index,
      );
    }
  }
});

test("whatever is damaged in a receipt, it is refused", () => {
  const good = lie(() => undefined);
  let count = 0;
  for (const [what, damaged] of damages(good)) {
    count += 1;
    assert.throws(() => verifyReceipt(JSON.stringify(damaged), registry, asked("ed25519")), ReceiptError, what);
  }
  assert.ok(count > 150, `${count} damages`);
  const text = JSON.stringify(good);
  refused(text.replace('"index":5', '"index":5,"index":5'), registry, "anything", "shape", "a name twice");
  refused(text.slice(0, -1), registry, "anything", "shape", "cut short");
  refused(
    text.replace('"seq":3', '"seq":9007199254740993'),
    registry,
    "anything",
    "shape",
    "a number that readers disagree on",
  );
});

test("the rung is the service's word: another one is not seen, and no proof repeats it", () => {
  const proof = verifyReceipt(
    JSON.stringify({ ...lie(() => undefined), rung: "archived" }),
    registry,
    asked("ed25519"),
  );
  assert.ok(!("rung" in proof));
});

test("a service that holds the ledger's key cannot pass off something else", () => {
  const cases: [string, ReceiptFault, JsonObject][] = [
    ["another digest", "signature", lie((_, payload) => (payload["digest"] = "00".repeat(32)))],
    [
      "another key's signature",
      "signature",
      lie((_, payload) => (payload["signature"] = ledger.issued("rsa-sha256")["signature"]!)),
    ],
    [
      "another pair under our name",
      "signer",
      lie((_, payload) => Object.assign(payload, ledger.issued("ecdsa-p256-sha256"), { kid: "ed25519" })),
    ],
    ["a name not in the registry", "signer", lie((_, payload) => (payload["signer_kid"] = "nobody"))],
    ["another algorithm", "signer", lie((_, payload) => (payload["algorithm"] = "rsa-sha256"))],
    ["a MAC for a signature", "signer", lie((_, payload) => (payload["operation"] = "mac"))],
    ["an unknown member", "event", lie((_, payload) => (payload["more"] = "x"))],
    ["a digest of another kind", "event", lie((_, payload) => (payload["digestAlgorithm"] = "sha512"))],
    ["another entry's id", "event", lie((event) => (event["id"] = "order-1"))],
    ["the appliance's stream", "event", lie((event) => (event["stream"] = "chancery"))],
    ["the appliance's actor", "event", lie((event) => (event["actor"] = "chancery"))],
    ["no ledger key", "signer", lie((event) => (event["signer_kid"] = "ed25519-v1"))],
    ["seq 0 with a previous hash", "event", lie((event) => (event["seq"] = 0))],
    ["a day that is none", "event", lie((event) => (event["ts"] = "2026-02-30T00:00:00.000Z"))],
    ["a second that is none", "event", lie((event) => (event["ts"] = "2026-02-20T23:59:60.000Z"))],
    ["a time before all clocks", "event", lie((event) => (event["ts"] = "1969-12-31T23:59:59.999Z"))],
    ["another type", "event", lie((event) => (event["eventType"] = "ledger.note"))],
    ["an event for a signature", "another-request", lie((event) => (event["eventType"] = "order.paid"))],
    ["a failure for a signature", "another-request", lie((event) => (event["eventType"] = "signing.signature.failed"))],
    ["another purpose", "another-request", lie((_, payload) => (payload["purpose"] = "returns"))],
    ["no metadata", "another-request", lie((_, payload) => delete payload["metadata"])],
  ];
  for (const [what, fault, receipt] of cases) refused(receipt, registry, asked("ed25519"), fault, what);
  const wrongHash = { ...ledger.leaf({ payload: ledger.issued("ed25519") }, 5), hash: "00".repeat(32) };
  refused(ledger.receipt(wrongHash, 5, 11), registry, asked("ed25519"), "event", "a hash of something else");
  const spelled = lie((_, payload) => (payload["signature"] = String(payload["signature"]).replace(/=+$/, "")));
  refused(spelled, registry, asked("ed25519"), "signature", "base64 in another spelling");
  const longer = lie(
    (_, payload) => Object.assign(payload, { digestAlgorithm: "sha512", digest: "00".repeat(64) }),
    "hmac-sha256",
  );
  refused(longer, registry, "anything", "signature", "a MAC over another kind of digest");
  const good = lie(() => undefined);
  refused(good, registry, asked("ed25519", { kid: "rsa-sha256" }), "another-request", "another key was asked for");
  refused(
    good,
    registry,
    asked("ed25519", { digest: "00".repeat(32) }),
    "another-request",
    "another digest was asked for",
  );
  refused(good, registry, asked("ed25519", { mode: "anchored" }), "another-request", "an anchor was asked for");
  refused(good, registry, { mac: { kid: "ed25519", message: MESSAGE } }, "another-request", "a MAC was asked for");
});

test("a key counts only where the registry says that it was active", () => {
  const good = lie(() => undefined);
  const states: [string, JsonObject, boolean][] = [
    ["activated here", { activatedIndex: 5 }, true],
    ["activated later", { activatedIndex: 6 }, false],
    ["only staged", { state: "staged", activatedIndex: undefined as never }, false],
    ["retired here", { retiredIndex: 5 }, false],
    ["retired later", { retiredIndex: 6 }, true],
    ["compromised before", { compromisedSince: 5 }, false],
    ["compromised later", { compromisedSince: 6 }, true],
  ];
  for (const [what, change, counts] of states) {
    const other = SignersRegistry.parse(ledger.registry((_, signer) => void Object.assign(signer("ed25519"), change)));
    if (counts) verifyReceipt(JSON.stringify(good), other, asked("ed25519"));
    else refused(good, other, asked("ed25519"), "signer", what);
  }
  const retired = SignersRegistry.parse(
    ledger.registry((_, signer) => void Object.assign(signer("ledger"), { retiredIndex: 4 })),
  );
  refused(good, retired, asked("ed25519"), "signer", "the ledger's key was retired before");
  // Of the ledger's own key it is the checkpoint's last entry that matters.
  const last = (good["treeSize"] as number) - 1;
  const lives: [string, JsonObject, boolean][] = [
    ["retired after the checkpoint", { retiredIndex: last + 1 }, true],
    ["retired under the checkpoint", { retiredIndex: last }, false],
    ["compromised after the checkpoint", { state: "compromised", compromisedSince: last + 1 }, true],
    ["compromised under the checkpoint", { compromisedSince: last }, false],
  ];
  for (const [what, change, counts] of lives) {
    const other = SignersRegistry.parse(ledger.registry((_, signer) => void Object.assign(signer("ledger"), change)));
    if (counts) verifyReceipt(JSON.stringify(good), other, asked("ed25519"));
    else refused(good, other, asked("ed25519"), "checkpoint", what);
  }
  const since = ledger.registry((_, signer) => void Object.assign(signer("ed25519"), { state: "compromised" }));
  assert.throws(() => SignersRegistry.parse(since), RegistryError);
});

test("an anchored digest's receipt is its signature, and nothing else's", () => {
  const { kid, digest, digestAlgorithm, policy, requestId } = ledger.issued("ed25519");
  const payload = {
    kid: kid!,
    digest: digest!,
    digestAlgorithm: digestAlgorithm!,
    policy: policy!,
    requestId: requestId!,
  };
  const receipt = ledger.receiptOf({ eventType: "signing.signature.anchored", payload });
  const what: Asked = { sign: { kid: "ed25519", digest: DIGEST, mode: "anchored" } };
  const proof = verifyReceipt(JSON.stringify(receipt), registry, what);
  assert.deepEqual([proof.anchored, proof.signature, proof.signers], [true, undefined, []]);
  refused(
    receipt,
    registry,
    { sign: { kid: "ed25519", digest: DIGEST } },
    "another-request",
    "an individual one was asked for",
  );
  refused(
    ledger.receiptOf({ eventType: "signing.signature.anchored", payload: { ...payload, kid: "nobody" } }),
    registry,
    "anything",
    "signer",
    "no such key",
  );
});

test("an event is the one that was appended", () => {
  const payload = { total: 12.5, é: ["x", null] };
  const event: Asked = { event: { eventType: "order.paid", payload, stream: "orders/eu" } };
  const draft = { eventType: "order.paid", payload, stream: "orders/eu" };
  assert.equal(verifyReceipt(JSON.stringify(ledger.receiptOf(draft)), registry, event).signature, undefined);
  for (const other of [
    { payload: { total: 12 } },
    { eventType: "order.lost" },
    { stream: "orders/us" },
    { metadata: { a: 1 } },
    { manifestSignatureId: "m" },
    { id: "mine" },
  ]) {
    refused(ledger.receiptOf({ ...draft, ...other }), registry, event, "another-request", Object.keys(other).join());
  }
  const named: Asked = {
    event: { eventType: "order.paid", payload, id: "mine", actor: "shop", ts: "2026-01-01T00:00:00.000Z" },
  };
  verifyReceipt(
    JSON.stringify(ledger.receiptOf({ ...draft, id: "mine", actor: "shop", ts: "2026-01-01T00:00:00.000Z" })),
    registry,
    named,
  );
  refused(
    ledger.receiptOf({ ...draft, id: "mine", actor: "other" }),
    registry,
    named,
    "another-request",
    "another actor",
  );
});

test("a co-signature verifies, and one that cannot be verified here is never passed over in silence", () => {
  const second = ledger.issued("ecdsa-p256-sha256");
  const coSigner = {
    algorithm: second["algorithm"]!,
    kid: second["kid"]!,
    signature: second["signature"]!,
    signer_kid: second["signer_kid"]!,
  };
  const proof = verifyReceipt(
    JSON.stringify(lie((_, payload) => (payload["coSigner"] = coSigner))),
    registry,
    asked("ed25519"),
  );
  assert.deepEqual(proof.signers, ["ed25519-v1", "ecdsa-p256-sha256-v1"]);
  refused(
    lie((_, payload) => (payload["coSigner"] = { ...coSigner, signature: ledger.issued("rsa-sha256")["signature"]! })),
    registry,
    "anything",
    "signature",
    "a wrong one",
  );

  const pem = { algorithm: "ed25519ph" };
  const unknown = SignersRegistry.parse(
    ledger.registry(
      (_, signer) =>
        void Object.assign(signer("rsa-sha512"), pem, { public_key_pem: signer("ed25519")["public_key_pem"] }),
    ),
  );
  const ph = { ...pem, kid: "rsa-sha512", signature: coSigner.signature, signer_kid: "rsa-sha512-v1" };
  const receipt = ledger.receiptOf({ payload: { ...ledger.issued("ed25519", "sha512"), coSigner: ph } });
  refused(receipt, unknown, "anything", "unsupported", "this runtime has no Ed25519ph");
  const reported = verifyReceipt(JSON.stringify(receipt), unknown, "anything", { unsupportedCoSigner: "report" });
  assert.deepEqual([reported.signers, reported.unverified], [["ed25519-v1"], ["rsa-sha512-v1"]]);
});
