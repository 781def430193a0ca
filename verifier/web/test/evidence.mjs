// What the page says of evidence: good, altered in every field, forged by whoever has the ledger's key, of another
// ledger, under keys that were retired, compromised or never activated.

import { strict as assert } from "node:assert";
import * as crypto from "node:crypto";
import { ALGORITHMS, canonical, derNumber, derOf, Ledger, makeKey, numbersOf, ORDERS, otherS, pemOf, rawOf, sha, strangersLine, textOf, vkeyOf } from "./ledger.mjs";
import { doubled, letters, mutants } from "./mutants.mjs";

const MESSAGE = Buffer.from("pay 100 to bob");
const text = (value) => JSON.stringify(value);

/** A ledger with one of everything, and where it stands. */
export async function makeWorld(mlDsa) {
  const ledger = new Ledger(), at = {}, keys = {};
  for (const algorithm of ALGORITHMS) {
    keys[algorithm] = ledger.activate(ledger.addSigner(algorithm));
    at[algorithm] = await ledger.issue(keys[algorithm], MESSAGE);
  }
  for (const [algorithm, made] of Object.entries(mlDsa)) {
    keys[algorithm] = ledger.activate(ledger.addSigner(algorithm, `${algorithm}-v1`, made));
    at[algorithm] = await ledger.issue(keys[algorithm], MESSAGE);
  }
  const ed = keys["ed25519"];
  ed.signMessage = (message) => crypto.sign(null, message, ed.privateKey);
  at.cosigned = await ledger.issue(keys["ecdsa-p256-sha256"], MESSAGE, { coSigner: ed });
  at.message = await ledger.issue(ed, MESSAGE, { operation: "sign-message" });
  for (const digestAlgorithm of ["sha384", "sha512"]) at[`ed25519 ${digestAlgorithm}`] = await ledger.issue(ed, MESSAGE, { digestAlgorithm });
  const anchored = { digest: sha("sha384", MESSAGE).toString("hex"), digestAlgorithm: "sha384", kid: "ed25519", policy: { rule: "anchors", sha256: "ab".repeat(32) }, requestId: "req-2" };
  at.anchored = ledger.append({ eventType: "signing.signature.anchored", actor: "bob", stream: "bobs", payload: anchored });
  const { signature, ...failed } = await ledger.payload(ed, MESSAGE);
  at.failed = ledger.append({ eventType: "signing.signature.failed", actor: "bob", stream: "bobs", payload: { ...failed, code: "backend-unavailable", keyUse: "none" } });
  at.event = ledger.append({ eventType: "order.paid", actor: "bob", stream: "bobs", id: "order-17", metadata: { by: "hand" }, payload: { total: 12.5, big: 1e21, small: 1e-7, text: "\u{1F600}é\u2028\"\\\n\u0001\u007f", list: [null, true, [], {}] }, manifestSignatureId: "m-1" });
  at.act = ledger.append({ eventType: "kill_switch.changed", actor: "chancery", stream: "chancery/governance", payload: { scope: "global", source: "signal", state: "running" } });
  at.opened = 0;
  for (const [name, event] of chains()) at[name] = ledger.append({ actor: "alice", eventType: "order.paid", ts: "2026-11-21T03:46:35.120Z", stream: name, ...event });
  return { ledger, at, keys, receiptOf: (name, options) => textOf(ledger.receipt(at[name], options)), registry: text(ledger.registry()) };
}

/** Entries in the chains of other writers. What each hashes is written out by hand. */
function chains() {
  const payload = { 10: "ten", 9: "nine", total: 12.5 }, prevHash = "5e".repeat(32);
  const odd = { "z<": "<&>\u2028", "\u{1F600}": 1, "\ufb33": 2, b: [{ "2": 0, "10": 0, "01": 0 }] };
  const link = (dialect, row, before = null) => ({ dialect, hash: sha("sha256", row).toString("hex"), prevHash: before });
  const raw = Buffer.from(prevHash, "hex"), jcs = '{"b":[{"01":0,"10":0,"2":0}],"z<":"<&>\u2028","\u{1F600}":1,"\ufb33":2}';
  const go = '{"b":[{"01":0,"10":0,"2":0}],"z\\u003c":"\\u003c\\u0026\\u003e\\u2028","\ufb33":2,"\u{1F600}":1}';
  const rebuilt = '{"b":[{"2":0,"10":0,"01":0}],"z<":"<&>\u2028","\u{1F600}":1,"\ufb33":2}';
  const rows = {
    "chain of FORMAT.md": [payload, { dialect: "kernel", hash: "946f1df36dbb2aa22d13db9b47887a96d66ebaf384bff493bbe07377b8d14925", prevHash: null }],
    "chain kernel": [odd, link("kernel", `{"eventType":"order.paid","payload":${rebuilt},"prevHash":"${prevHash}","ts":"2026-11-21T03:46:35.120Z"}`, prevHash)],
    "chain shared": [odd, link("shared", `{"actor_id":"alice","created_at":"2026-11-21T03:46:35.120Z","event_type":"order.paid","payload":${rebuilt},"prev_hash":null}`)],
    "chain kernel-go": [odd, link("kernel-go", Buffer.concat([Buffer.from(go), raw]), prevHash)],
    "chain agent-manager": [odd, link("agent-manager", Buffer.concat([Buffer.from(jcs), raw]), prevHash)],
    "chain memory-layer": [odd, link("memory-layer", jcs)],
    "chain kernel-server": [odd, link("kernel-server", jcs)],
  };
  return Object.entries(rows).map(([name, [of, chain]]) => [name, { payload: of, chain, stream: name.replaceAll(" ", "-") }]);
}

/** Runs `many` of `[name, evidence]` through one slot; each must be told `verdict`, or one of them. */
async function expectMany(tab, slot, many, verdicts, failing = undefined) {
  const told = await tab.giveMany(slot, many.map(([, evidence]) => evidence));
  const wrong = told.map(({ verdict, reason, failed }, at) => ({ name: many[at][0], verdict, reason, failed }))
    .filter(({ verdict, failed }) => !verdicts.includes(verdict) || (failing && !failed.includes(failing)));
  assert.deepEqual(wrong, [], `${wrong.length} of ${many.length} told otherwise than ${verdicts}`);
  return many.length;
}

const NOT_VALID = ["not-valid"];
const NEVER_VALID = ["not-valid", "cannot-decide"];

/** `[name, act]`; an act returns how many pieces of evidence it gave. */
export function evidenceCases(tab, world, mlDsaKnown) {
  const { ledger, at, keys, receiptOf, registry } = world;
  const good = { receipt: receiptOf("ed25519"), registry };
  const file = MESSAGE, cases = [], add = (name, act) => cases.push([name, act]);
  const says = async (evidence, verdict, checks = {}, words = undefined) => {
    const told = await tab.give(evidence);
    assert.equal(told.verdict, verdict, `${told.reason} ${text(told.checks)}`);
    for (const [id, state] of Object.entries(checks)) assert.equal(told.checks[id], state, `${id}: ${told.why[id]}`);
    if (words) assert.match(`${told.title} ${told.reason} ${Object.values(told.why).join(" ")} ${told.limits} ${told.notice}`, words);
    return 1;
  };

  // ---- Good

  for (const algorithm of ALGORITHMS) {
    if (algorithm.startsWith("hmac")) add(`good ${algorithm}`, () => says({ receipt: receiptOf(algorithm), registry, file }, "valid-in-part", { signature: "open", file: "checked" }, /nobody outside/));
    else add(`good ${algorithm}`, () => says({ receipt: receiptOf(algorithm), registry, file }, "valid", { signature: "checked", file: "checked" }));
  }
  for (const algorithm of ["ml-dsa-44", "ml-dsa-65"]) {
    add(`good ${algorithm}, ${mlDsaKnown ? "which this browser knows" : "which this browser does not know"}`, () =>
      (mlDsaKnown ? says({ receipt: receiptOf(algorithm), registry }, "valid", { signature: "checked" })
        : says({ receipt: receiptOf(algorithm), registry }, "valid-in-part", { signature: "open" }, /as far as this browser can tell: 1 signature not checked/)));
  }
  add("good with a second signature", () => says({ receipt: receiptOf("cosigned"), registry, file }, "valid", { "signature": "checked", "co-signature": "checked" }));
  add("good sign-message with its message", () => says({ receipt: receiptOf("message"), registry, file }, "valid", { signature: "checked", file: "checked" }));
  add("sign-message without its message", () => says({ receipt: receiptOf("message"), registry }, "valid-in-part", { signature: "open" }, /give the message/));
  add("anchored", () => says({ receipt: receiptOf("anchored"), registry, file }, "valid", { signature: "checked", file: "checked" }, /receipt is the signature/));
  for (const digest of ["sha384", "sha512"]) add(`ed25519 over ${digest}`, () => says({ receipt: receiptOf(`ed25519 ${digest}`), registry, file }, "valid", { signature: "checked" }));
  for (const name of ["failed", "event", "act", "opened"]) add(`good entry without a signature: ${name}`, () => says({ receipt: receiptOf(name), registry }, "valid", { signature: "none" }));
  for (const [name] of chains()) {
    add(`good ${name}`, () => says({ receipt: receiptOf(name), registry }, "valid", { chain: "checked" }));
    add(`wrong ${name}`, async () => {
      const event = JSON.parse(receiptOf(name)).event, index = ledger.append({ ...event, id: undefined, hash: undefined, seq: undefined, prevHash: undefined, stream: `x-${event.stream}`, chain: { ...event.chain, hash: "ab".repeat(32) }, ...fresh(ledger) });
      return says({ receipt: textOf(ledger.receipt(index)), registry }, "not-valid", { chain: "failed", hash: "checked" });
    });
  }
  add("good in every place of trees of every shape", async () => {
    const small = new Ledger("log.example/small"), many = [];
    while (small.leaves.length < 21) small.append({ eventType: "note", actor: "bob", stream: "bobs", payload: { n: small.leaves.length } });
    for (const size of [1, 2, 3, 5, 7, 8, 12, 16, 17, 21])
      for (let index = 0; index < size; index += 1) many.push([`${index} of ${size}`, textOf(small.receipt(index, { size }))]);
    await tab.give({ receipt: good.receipt, registry: text(small.registry()) });
    return expectMany(tab, "receipt", many, ["valid"]);
  });
  add("good in other layouts", async () => {
    const receipt = JSON.parse(receiptOf("event")), { event, ...rest } = receipt;
    const turned = Object.fromEntries(Object.entries(event).reverse());
    await tab.give({ receipt: good.receipt, registry });
    return expectMany(tab, "receipt", [["indented", JSON.stringify(receipt, null, 2)], ["members turned round", text({ event: turned, ...rest })],
      ["escaped", textOf(receipt).replace("é", "\\u00E9").replace("12.5", "1.25e1")], ["in an answer", text({ id: "x", kid: "x", receipt })],
      ["archived", text({ ...receipt, rung: "archived" })], ["durable", text({ ...receipt, rung: "durable" })], ["witnessed", text({ ...receipt, rung: "witnessed" })]], ["valid"]);
  });
  add("signatures by keys that nobody knows are counted, not believed", async () => {
    const lines = [strangersLine(), strangersLine(ledger.origin)];
    return says({ receipt: receiptOf("ed25519", { lines }), registry }, "valid", { checkpoint: "checked" }, /2 signatures by keys this registry does not know/);
  });

  // ---- The registry's signature, and what is missing

  const note = ledger.registryNote(registry);
  add("registry with its signature", () => says({ ...good, note }, "valid", { note: "checked" }, /version 3/));
  add("registry with the signature of another", () => says({ ...good, note: ledger.registryNote(`${registry} `) }, "not-valid", { note: "failed" }, /another registry|altered/));
  add("registry signed by a stranger", () => says({ ...good, note: ledger.registryNote(registry, { keys: [makeKey("ed25519")] }) }, "not-valid", { note: "failed" }));
  add("registry signed for another ledger", () => says({ ...good, note: ledger.registryNote(registry, { origin: "log.example/other" }) }, "not-valid", { note: "failed" }));
  add("no registry", () => says({ receipt: good.receipt }, "cannot-decide", { "receipt": "checked", "hash": "checked", "inclusion": "checked", "checkpoint": "open", "ledger-key": "open", "signature": "open" }, /only the registry says/));
  add("no registry, and an altered receipt", () => says({ receipt: good.receipt.replace("A-17", "A-18") }, "not-valid", { hash: "failed" }));
  add("no receipt", () => says({ registry }, "waiting"));
  add("the wrong file", () => says({ ...good, file: "pay 999 to bob" }, "not-valid", { file: "failed", signature: "checked" }, /not the one that was signed/));
  add("the wrong message", () => says({ receipt: receiptOf("message"), registry, file: "pay 999 to bob" }, "not-valid", { file: "failed" }));

  // ---- Sidecars

  const sidecarOf = async (kind) => {
    const provenance = { artifact: "order.pdf", bytes: MESSAGE.length, commit: "ab12", branch: "main", dirty: false }, issued = kind === "issued";
    const common = { policy: { rule: "r", sha256: "ab".repeat(32) }, requestId: "r", metadata: { provenance } };
    const payload = issued ? await ledger.payload(keys["ed25519"], MESSAGE, common) : { ...common, kid: "ed25519", digest: sha("sha256", MESSAGE).toString("hex"), digestAlgorithm: "sha256" };
    const receipt = ledger.receipt(ledger.append({ eventType: `signing.signature.${kind}`, actor: "bob", stream: `sidecars-${kind}`, payload })), { event } = receipt;
    const { digestAlgorithm, digest, kid, signer_kid = event.signer_kid, algorithm = "", signature = "" } = event.payload;
    return { version: 1, digestAlgorithm, digest, kid, signer_kid, algorithm, signature, ts: event.ts, provenance, receipt };
  };
  for (const kind of ["issued", "anchored"]) {
    add(`sidecar of a digest ${kind}`, async () => {
      const sidecar = await sidecarOf(kind), { receipt, ...rest } = sidecar;
      await says({ receipt: JSON.stringify(sidecar, null, 2), registry, file }, "valid", { around: "checked", file: "checked" });
      const many = [...mutants(rest)].filter(([, changed]) => changed !== null && !Array.isArray(changed)).map(([path, changed]) => [path, text({ ...changed, receipt })]);
      await tab.give({ receipt: text(sidecar), registry, file });
      return await expectMany(tab, "receipt", many, NOT_VALID, "around") + await says({ receipt: text({ ...sidecar, ...(await sidecarOf(kind)), ts: sidecar.ts }), registry, file }, "not-valid", { around: "failed" });
    });
  }
  add("an answer that only points to its receipt", () => says({ receipt: text({ id: "x", receipt: { index: 3 } }), registry }, "not-valid", { receipt: "failed" }, /only points to its receipt/));

  // ---- Altered

  for (const name of ["ed25519", "cosigned", "anchored", "event", "chain kernel"]) {
    add(`altered receipt: ${name}`, async () => {
      const receipt = JSON.parse(receiptOf(name));
      const many = [...mutants(receipt)].map(([path, changed]) => [path, text(changed)]);
      await tab.give({ receipt: receiptOf(name), registry });
      return expectMany(tab, "receipt", many, NOT_VALID);
    });
    add(`altered entry with its hash made right: ${name}`, async () => {
      const receipt = JSON.parse(receiptOf(name)), many = [];
      for (const [path, event] of mutants(receipt.event)) {
        if (event === null || typeof event !== "object" || Array.isArray(event) || !("hash" in event)) continue;
        event.hash = sha("sha256", canonical({ ...event, hash: undefined })).toString("hex");
        if (canonical(event) !== canonical(receipt.event)) many.push([path, text({ ...receipt, event })]);
      }
      await tab.give({ receipt: receiptOf(name), registry });
      return expectMany(tab, "receipt", many, NOT_VALID);
    });
    add(`members written twice: ${name}`, async () => {
      const many = [...doubled(JSON.parse(receiptOf(name)))];
      await tab.give({ receipt: receiptOf(name), registry });
      return expectMany(tab, "receipt", many, NOT_VALID, "receipt");
    });
  }
  add("altered checkpoint, letter by letter", async () => {
    const receipt = JSON.parse(good.receipt), many = [...letters(receipt.checkpoint)].map(([name, checkpoint]) => [name, text({ ...receipt, checkpoint })]);
    await tab.give(good);
    return expectMany(tab, "receipt", many, NOT_VALID, "checkpoint");
  });
  add("altered proof, each byte of each hash", async () => {
    const receipt = JSON.parse(good.receipt), many = [];
    receipt.inclusionProof.forEach((hash, place) => [...letters(hash)].forEach(([name, changed]) => {
      const letter = changed.replace("A", "0") === hash ? changed.replace("A", "1") : changed.replace("A", "0");
      if (letter !== hash) many.push([`hash ${place}, ${name}`, text({ ...receipt, inclusionProof: receipt.inclusionProof.with(place, letter) })]);
    }));
    await tab.give(good);
    return expectMany(tab, "receipt", many, NOT_VALID, "inclusion");
  });
  add("not JSON that every reader agrees on", async () => {
    const { receipt } = good, broken = (from, to) => { assert.ok(receipt.includes(from), from); return receipt.replace(from, to); };
    const many = [["empty object", "{}"], ["a mark before it", `\ufeff${receipt}`], ["something after it", `${receipt}x`], ["a second one after it", receipt + receipt],
      ["cut off", receipt.slice(0, -1)], ["cut off in the middle", receipt.slice(0, 700)], ["half a surrogate pair", broken("A-17", "\\ud800")],
      ["the other half", broken("A-17", "\\udc00x")], ["bad escape", broken("A-17", "\\x41")], ["control character", broken("A-17", "A\t17")],
      ["single quotes", broken('"A-17"', "'A-17'")], ["comma too many", broken('"A-17"', '"A-17",')], ["leading zero", broken('"A-17"', "017")], ["plus", broken('"A-17"', "+17")], ["bare point", broken('"A-17"', "17.")],
      ["NaN", broken('"A-17"', "NaN")], ["deep", broken('"A-17"', "[".repeat(70) + "]".repeat(70))], ["index 1.0", broken('"index":3', '"index":3.0')],
      ["index 3e0", broken('"index":3', '"index":3e0')], ["index -3", broken('"index":3', '"index":-3')], ["index of 20 digits", broken('"index":3', '"index":99999999999999999999')],
      ["version 2", broken('{"version":1', '{"version":2')], ["proof in capitals", text({ ...JSON.parse(receipt), inclusionProof: JSON.parse(receipt).inclusionProof.map((hash) => hash.toUpperCase()) })],
      ["bytes that are no text", Buffer.concat([Buffer.from('{"inclusionProof":"'), Buffer.of(0xff, 0xfe), Buffer.from('"}')])],
      ["more than 1 MiB", `${receipt}${" ".repeat(1024 * 1024)}`]];
    await tab.give(good);
    const numbers = [["integer no double holds", broken('"A-17"', "9007199254740993")], ["infinity", broken('"A-17"', "1e999")]];
    return await expectMany(tab, "receipt", many, NOT_VALID, "receipt") + await expectMany(tab, "receipt", numbers, NOT_VALID, "leaf");
  });
  add("more than 16 MiB", async () => {
    await tab.give(good);
    const told = await tab.giveMany("receipt", [`${good.receipt}${" ".repeat(16 * 1024 * 1024)}`]);
    assert.equal(told[0].verdict, "cannot-decide");
    assert.match(told[0].reason, /larger than 16 MiB/);
    tab.held.delete("receipt");
    return 1;
  });

  // ---- Registries

  add("another ledger's registry, of another origin", () => says({ ...good, registry: text(new Ledger("log.example/other").registry()) }, "not-valid", { checkpoint: "failed" }, /of the ledger log.example\/chancery, and the registry of log.example\/other/));
  add("another ledger's registry, of the same origin", () => says({ ...good, registry: text(new Ledger().registry()) }, "not-valid", { checkpoint: "failed" }));
  add("altered registry, with its signature", async () => {
    const changed = [...mutants(cut(ledger.registry()))].map(([path, value]) => [path, text(value)]);
    await tab.give({ ...good, registry: text(cut(ledger.registry())), note: ledger.registryNote(text(cut(ledger.registry()))) });
    return expectMany(tab, "registry", changed, NEVER_VALID);
  });
  add("altered registry, without its signature", async () => {
    // Changes that say nothing of these two keys, or only what this entry allows as well.
    const harmless = /(?:description|purpose) (?:other beginning|longer|empty)|description removed|activatedIndex one more|\.kid removed|vkeys longer|signers reversed|signers\[0\]\.activatedIndex removed/;
    const many = [...mutants(cut(ledger.registry()))].filter(([path]) => !harmless.test(path)).map(([path, value]) => [path, text(value)]);
    await tab.give(good);
    return expectMany(tab, "registry", many, NEVER_VALID);
  });
  add("registries that are none", async () => {
    const file = ledger.registry(), first = file.signers[0], replaced = (change, which = 0) => text({ ...file, signers: file.signers.map((signer, place) => (place === which ? { ...signer, ...change } : signer)) });
    const pem = first.public_key_pem, raw = rawOf(crypto.createPublicKey(pem)), edPem = (bytes) => pemWith(Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), bytes]));
    const ec = file.signers.findIndex(({ algorithm }) => algorithm === "ecdsa-p256-sha256"), rsa = file.signers.findIndex(({ algorithm }) => algorithm === "rsa-sha256");
    const der = crypto.createPublicKey(file.signers[ec].public_key_pem).export({ type: "spki", format: "der" }), offCurve = Buffer.from(der);
    offCurve[offCurve.length - 1] ^= 1;
    const many = [["listed twice", text({ ...file, signers: [...file.signers, first] })], ["no vkeys", text({ ...file, ledger: { ...file.ledger, vkeys: [] } })],
      ["null for absent", replaced({ retiredIndex: null })], ["carriage returns", replaced({ public_key_pem: pem.replaceAll("\n", "\r\n") })],
      ["bits behind the base64", replaced({ public_key_pem: pem.replace(/=\n/, "A\n") })], ["a private key's head", replaced({ public_key_pem: pem.replaceAll("PUBLIC", "PRIVATE") })],
      ["a point of small order", replaced({ public_key_pem: edPem(Buffer.concat([Buffer.of(1), Buffer.alloc(31)])) })],
      ["a point with torsion", replaced({ public_key_pem: edPem(negated(raw)) })], ["a second encoding", replaced({ public_key_pem: edPem(Buffer.from(`ee${"ff".repeat(30)}7f`, "hex")) })],
      ["a vkey with torsion", text({ ...file, ledger: { ...file.ledger, vkeys: [vkeyOf(ledger.origin, negated(raw))] } })],
      ["a vkey of small order", text({ ...file, ledger: { ...file.ledger, vkeys: [vkeyOf(ledger.origin, Buffer.alloc(32))] } })],
      ["a vkey of another name", text({ ...file, ledger: { ...file.ledger, vkeys: [vkeyOf("log.example/other", raw)] } })],
      ["a vkey with another id", text({ ...file, ledger: { ...file.ledger, vkeys: [file.ledger.vkeys[0].replace(/\+[0-9a-f]{8}\+/, "+00000000+")] } })],
      ["a point off its curve", replaced({ public_key_pem: pemWith(offCurve) }, ec)], ["a key of another algorithm", replaced({ public_key_pem: pem }, ec)],
      ["RSA of 1024 bits", replaced({ public_key_pem: rsaPem(1024) }, rsa)], ["RSA with exponent 3", replaced({ public_key_pem: rsaPem(2048, 3) }, rsa)],
      ["a MAC key with a public half", replaced({ public_key_pem: pem }, file.signers.findIndex(({ algorithm }) => algorithm === "hmac-sha256"))],
      ["unknown algorithm", replaced({ algorithm: "ed448" })], ["unknown state", replaced({ state: "lost" })], ["a day that is none", replaced({ deployedAt: "2026-02-30T00:00:00.000Z" })],
      ...[...doubled(cut(file))]];
    await tab.give(good);
    return expectMany(tab, "registry", many, ["cannot-decide"], "registry");
  });

  // ---- Lives of keys

  const lived = (change, which = "ed25519-v1") => text({ ...ledger.registry(), signers: ledger.registry().signers.map((signer) => (signer.signer_kid === which ? { ...signer, ...change } : signer)) });
  const here = at["ed25519"];
  add("key retired before", () => says({ ...good, registry: lived({ state: "retired", retiredIndex: here }) }, "not-valid", { signature: "failed" }, /was retired at entry/));
  add("key retired after", () => says({ ...good, registry: lived({ state: "retired", retiredIndex: here + 1 }) }, "valid", { signature: "checked" }, /was retired later, at entry \d+; signatures before stand/));
  add("key compromised before", () => says({ ...good, registry: lived({ state: "compromised", compromisedSince: here }) }, "not-valid", { signature: "failed" }, /is compromised since entry/));
  add("key compromised after", () => says({ ...good, registry: lived({ state: "compromised", compromisedSince: here + 1 }) }, "valid", { signature: "checked" }, /before it, by the order of the ledger/));
  add("key compromised, nobody knows since when", () => says({ ...good, registry: lived({ state: "compromised" }) }, "not-valid", { signature: "failed" }));
  add("key activated later", () => says({ ...good, registry: lived({ activatedIndex: here + 1 }) }, "not-valid", { signature: "failed" }, /may sign only from entry/));
  add("key only staged", () => says({ ...good, registry: lived({ state: "staged", activatedIndex: undefined }) }, "not-valid", { signature: "failed" }, /only staged/));
  add("MAC key retired before", () => says({ receipt: receiptOf("hmac-sha256"), registry: lived({ retiredIndex: 1 }, "hmac-sha256-v1") }, "not-valid", { signature: "failed" }));
  add("second key compromised before", () => says({ receipt: receiptOf("cosigned"), registry: lived({ state: "compromised", compromisedSince: 1 }) }, "not-valid", { "co-signature": "failed", "signature": "checked" }));
  add("ledger key compromised before", () => says({ ...good, registry: lived({ state: "compromised", compromisedSince: 1 }, "ledger-v1") }, "not-valid", { "ledger-key": "checked", "checkpoint": "failed" }));
  add("ledger key compromised after", () => says({ ...good, registry: lived({ state: "compromised", compromisedSince: 100_000 }, "ledger-v1") }, "valid", {}, /can also sign a checkpoint that claims to be older/));
  add("ledger key retired before", () => says({ ...good, registry: lived({ state: "retired", retiredIndex: 1 }, "ledger-v1") }, "not-valid", { "ledger-key": "failed", "checkpoint": "failed" }));
  add("ledger key replaced", async () => {
    const other = new Ledger("log.example/two"), old = other.ledgerKeys[0];
    const before = other.append({ eventType: "note", actor: "bob", stream: "bobs", payload: {} });
    const next = other.addLedgerKey("ledger-v2");
    other.activate(next);
    old.record.retiredIndex = other.append({ eventType: "signer.retired", actor: "chancery", stream: "chancery", payload: { signer_kid: "ledger-v1" }, signer_kid: "ledger-v1" });
    const behind = other.append({ eventType: "note", actor: "bob", stream: "bobs", payload: {} });
    const late = other.append({ eventType: "note", actor: "bob", stream: "bobs", payload: {}, signer_kid: "ledger-v1" });
    const file = text(other.registry()), last = old.record.retiredIndex;
    await says({ receipt: textOf(other.receipt(before)), registry: file }, "valid");
    await says({ receipt: textOf(other.receipt(last)), registry: file }, "valid");
    await says({ receipt: textOf(other.receipt(behind)), registry: file }, "valid");
    await says({ receipt: textOf(other.receipt(before, { size: before + 1, keys: [old] })), registry: file }, "valid");
    await says({ receipt: textOf(other.receipt(before, { keys: [old, next] })), registry: file }, "valid");
    // Whoever has a copy of the first key has no checkpoint by the second.
    const seized = text({ ...other.registry(), signers: other.registry().signers.map((signer) => (signer.signer_kid === "ledger-v1" ? { ...signer, state: "compromised", compromisedSince: before } : signer)) });
    await says({ receipt: textOf(other.receipt(before)), registry: seized }, "valid", { "ledger-key": "checked" });
    await says({ receipt: textOf(other.receipt(before, { size: before + 1, keys: [old] })), registry: seized }, "not-valid", { "ledger-key": "checked", checkpoint: "failed" }, /is compromised/);
    await says({ receipt: textOf(other.receipt(before, { keys: [old, next] })), registry: seized }, "valid", {}, /can also sign a checkpoint that claims to be older/);
    await says({ receipt: textOf(other.receipt(late)), registry: file }, "not-valid", { "ledger-key": "failed" });
    await says({ receipt: textOf(other.receipt(behind, { keys: [old] })), registry: file }, "not-valid", { checkpoint: "failed" }, /was retired/);
    const early = other.append({ eventType: "note", actor: "bob", stream: "bobs", payload: {}, signer_kid: "ledger-v2" });
    other.ledgerKeys[1].record.activatedIndex = early + 1;
    return 10 + await says({ receipt: textOf(other.receipt(early)), registry: text(other.registry()) }, "not-valid", { "ledger-key": "failed" });
  });

  // ---- Forged by whoever has the ledger's key: everything fits but the one thing

  const ed = keys["ed25519"], p256 = keys["ecdsa-p256-sha256"], k256 = keys["ecdsa-secp256k1-sha256"];
  const base64 = (bytes) => Buffer.from(bytes).toString("base64"), digest = sha("sha256", MESSAGE), signed = async (key) => Buffer.from(await key.sign(MESSAGE, key.hash));
  const forged = (name, key, changes, failing, event = {}) => add(`forged: ${name}`, async () => {
    const index = await ledger.issue(key, MESSAGE, await (typeof changes === "function" ? changes() : changes), event);
    return says({ receipt: textOf(ledger.receipt(index)), registry, file }, "not-valid", { hash: "checked", inclusion: "checked", [failing]: "failed" });
  });
  for (const algorithm of [...ALGORITHMS, ...(mlDsaKnown ? ["ml-dsa-44", "ml-dsa-65"] : [])].filter((name) => !name.startsWith("hmac"))) {
    forged(`a bit of a signature by ${algorithm}`, keys[algorithm], async () => { const bytes = await signed(keys[algorithm]); bytes[bytes.length - 9] ^= 4; return { signature: base64(bytes) }; }, "signature");
    forged(`a signature by ${algorithm} over another digest`, keys[algorithm], async () => ({ signature: base64(await keys[algorithm].sign(Buffer.from("other"), keys[algorithm].hash)) }), "signature");
    forged(`an empty signature by ${algorithm}`, keys[algorithm], { signature: "" }, "signature");
    forged(`a longer signature by ${algorithm}`, keys[algorithm], async () => ({ signature: base64(Buffer.concat([await signed(keys[algorithm]), Buffer.of(0)])) }), "signature");
  }
  forged("Ed25519 with s above the order", ed, async () => {
    const bytes = await signed(ed), s = BigInt(`0x${Buffer.from(bytes.subarray(32)).reverse().toString("hex")}`) + 2n ** 252n + 27742317777372353535851937790883648493n;
    return { signature: base64(Buffer.concat([bytes.subarray(0, 32), Buffer.from(s.toString(16).padStart(64, "0"), "hex").reverse()])) };
  }, "signature");
  forged("Ed25519 with R of small order", ed, { signature: base64(zeroNonce(ed, digest)) }, "signature");
  forged("secp256k1 with the higher s", k256, async () => ({ signature: base64(otherS(await signed(k256), ORDERS.secp256k1)) }), "signature");
  add("P-256 with the other s is one too", async () => {
    const index = await ledger.issue(p256, MESSAGE, { signature: base64(otherS(await signed(p256), ORDERS.p256)) });
    return says({ receipt: textOf(ledger.receipt(index)), registry }, "valid", { signature: "checked" });
  });
  forged("ECDSA with padded DER", p256, async () => {
    const [r, s] = numbersOf(await signed(p256)), one = derNumber(r), padded = Buffer.concat([Buffer.of(2, one[1] + 1, 0), one.subarray(2)]);
    return { signature: base64(Buffer.concat([Buffer.of(0x30, padded.length + derNumber(s).length), padded, derNumber(s)])) };
  }, "signature");
  forged("ECDSA with s plus the order", p256, async () => { const [r, s] = numbersOf(await signed(p256)); return { signature: base64(derOf(r, s + ORDERS.p256)) }; }, "signature");
  forged("ECDSA with r = s = 0", p256, { signature: base64(derOf(0n, 0n)) }, "signature");
  forged("PSS where PKCS#1 v1.5 is named", keys["rsa-sha256"], async () => ({ signature: base64(await keys["rsa-pss-sha256"].sign(MESSAGE)) }), "signature");
  forged("a key that the registry does not list", ed, { signer_kid: "nobody-v1" }, "signature");
  forged("a key of another name", ed, { kid: "treasury" }, "signature");
  forged("another algorithm than the key's", ed, { algorithm: "ed25519ph" }, "signature");
  forged("a MAC by a signing key", ed, { operation: "mac" }, "signature");
  forged("a signature by a MAC key", keys["hmac-sha256"], { operation: "sign" }, "signature");
  forged("a digest its algorithm does not take", p256, { digest: sha("sha384", MESSAGE).toString("hex"), digestAlgorithm: "sha384" }, "signature");
  forged("ml-dsa-mu by a key that is not ML-DSA", ed, { digest: "ab".repeat(64), digestAlgorithm: "ml-dsa-mu" }, "signature");
  forged("a digest of the wrong length", ed, { digest: "abcd" }, "payload");
  forged("a digest by nobody's hash", ed, { digestAlgorithm: "md5" }, "payload");
  forged("an operation nobody knows", ed, { operation: "encrypt" }, "payload");
  forged("a member that payloads do not have", ed, { extra: 1 }, "payload");
  forged("a payload without policy", ed, { policy: undefined }, "payload");
  forged("null for absent", ed, { purpose: null }, "payload");
  forged("a signature in url-safe base64", ed, async () => ({ signature: `-${base64(await signed(ed)).slice(1)}` }), "payload");
  forged("a second signature that is none", p256, { coSigner: { ...ed, sign: () => Buffer.alloc(64) } }, "co-signature");
  forged("a second signature by a key nobody knows", p256, { coSigner: { ...ed, name: "nobody-v1" } }, "co-signature");
  forged("somebody's signature in the ledger's name", ed, {}, "place", { actor: "chancery" });
  forged("a signature in the ledger's stream", ed, {}, "place", { stream: "chancery" });
  forged("a signature in a stream below the ledger's", ed, {}, "place", { stream: "chancery/x" });
  forged("an id of another place", ed, {}, "place", { id: ledger.idOf(1) });
  forged("an id that is no place's", ed, {}, "place", { id: "mine-1" });
  forged("under a key that is not the ledger's", ed, {}, "ledger-key", { signer_kid: "ed25519-v1" });
  forged("under a key nobody knows", ed, {}, "ledger-key", { signer_kid: "ledger-v9" });
  const misplaced = (name, draft) => add(`out of place: ${name}`, async () => {
    const index = ledger.append({ payload: {}, ...draft });
    return says({ receipt: textOf(ledger.receipt(index)), registry }, "not-valid", { hash: "checked", inclusion: "checked", place: "failed" });
  });
  misplaced("a key's activation by a service", { eventType: "signer.activated", actor: "bob", stream: "bobs" });
  misplaced("the ledger opened again", { eventType: "ledger.opened", actor: "chancery", stream: "chancery" });
  misplaced("a service's event in the ledger's stream", { eventType: "note", actor: "bob", stream: "chancery/x" });
  misplaced("an act outside the stream of acts", { eventType: "kill_switch.changed", actor: "chancery", stream: "chancery" });
  misplaced("an event that is no act in the stream of acts", { eventType: "policy.loaded", actor: "chancery", stream: "chancery/governance" });
  misplaced("an id of another entry for somebody's event", { eventType: "note", actor: "bob", stream: "bobs", id: ledger.idOf(2) });
  const malformed = (name, draft) => add(`no entry: ${name}`, async () => {
    const index = ledger.append({ eventType: "note", actor: "bob", stream: `m-${ledger.leaves.length}`, payload: {}, ...draft });
    return says({ receipt: textOf(ledger.receipt(index)), registry }, "not-valid", { leaf: "failed", inclusion: "open" });
  });
  malformed("a member more", { more: 1 });
  malformed("a payload that is a list", { payload: [1] });
  malformed("metadata that is null", { metadata: null });
  malformed("a name with a space", { actor: "bob b" });
  malformed("a name of 257 letters", { actor: "b".repeat(257) });
  malformed("a time without milliseconds", { ts: "2026-11-21T03:46:35Z" });
  malformed("the 30th of February", { ts: "2026-02-30T00:00:00.000Z" });
  malformed("version 2", { version: 2 });
  malformed("prevHash at seq 0", { prevHash: "ab".repeat(32) });
  malformed("no prevHash at seq 1", { seq: 1, prevHash: null });
  malformed("a dialect nobody has", { chain: { dialect: "cobol", hash: "ab".repeat(32), prevHash: null } });
  malformed("more than 65,535 bytes", { payload: { text: "x".repeat(65_535) } });
  malformed("nested 65 deep", { payload: JSON.parse(`${'{"a":'.repeat(65)}1${"}".repeat(65)}`) });
  add("nested 64 deep, which is allowed", async () => {
    const index = ledger.append({ eventType: "note", actor: "bob", stream: "deep", payload: JSON.parse(`${'{"a":'.repeat(64)}1${"}".repeat(64)}`) });
    return says({ receipt: textOf(ledger.receipt(index)), registry }, "valid");
  });
  add("ml-dsa-mu is not checked here", async () => {
    const key = keys["ml-dsa-44"], index = await ledger.issue(key, MESSAGE, { digest: "ab".repeat(64), digestAlgorithm: "ml-dsa-mu", signature: Buffer.alloc(2420).toString("base64") });
    await says({ receipt: textOf(ledger.receipt(index)), registry }, "valid-in-part", { signature: "open" }, /representative/);
    const short = await ledger.issue(key, MESSAGE, { digest: "ab".repeat(32), digestAlgorithm: "ml-dsa-mu" });
    return 1 + await says({ receipt: textOf(ledger.receipt(short)), registry }, "not-valid", { payload: "failed" });
  });
  add("anchored in the name of nobody", async () => {
    const index = ledger.append({ eventType: "signing.signature.anchored", actor: "bob", stream: "bobs", payload: { digest: "ab".repeat(32), digestAlgorithm: "sha256", kid: "nobody", policy: { rule: "r", sha256: "ab".repeat(32) }, requestId: "r" } });
    return says({ receipt: textOf(ledger.receipt(index)), registry }, "not-valid", { signature: "failed" });
  });

  // ---- Checkpoints by whoever has the ledger's key

  add("checkpoints that are none", async () => {
    const body = ledger.checkpoint().split("\n\n")[0], [origin, size, root] = body.split("\n");
    const many = [["leading zero", `${origin}\n0${size}\n${root}\n`], ["an extension line", `${origin}\n${size}\n${root}\nmore\n`], ["no root", `${origin}\n${size}\n\n`],
      ["a short root", `${origin}\n${size}\nCQkJCQ==\n`], ["another origin", `log.example/other\n${size}\n${root}\n`], ["plus", `${origin}\n+${size}\n${root}\n`],
      ["a size above 2^63", `${origin}\n9223372036854775808\n${root}\n`], ["another size", `${origin}\n${Number(size) + 1}\n${root}\n`]]
      .map(([name, told]) => [name, textOf({ ...ledger.receipt(here), checkpoint: ledger.checkpoint({ text: told }) })]);
    const again = ledger.checkpoint(), line = again.split("\n\n")[1];
    const cr = again.replace(/\n\n/, "\r\n\r\n");
    for (const [name, checkpoint] of [["signed twice by one key", again + line], ["no signature", again.split("\n\n")[0] + "\n\n"], ["carriage returns", cr], ["no end of line", again.slice(0, -1)],
      ["a line that is none", `${again}hello\n`], ["a hundred lines more", again + strangersLine().repeat(100)], ["only strangers", `${again.split("\n\n")[0]}\n\n${strangersLine()}`],
      ["a hyphen for the dash", again.replace("\u2014", "-")]])
      many.push([name, textOf({ ...ledger.receipt(here), checkpoint })]);
    await tab.give(good);
    return expectMany(tab, "receipt", many, NOT_VALID);
  });
  return cases;
}

const fresh = (ledger) => ({ id: ledger.idOf(ledger.leaves.length), seq: 0, prevHash: null });
/** A registry of two keys: the ledger's and the first one's, so that every member can be altered in a moment. */
const cut = (registry) => JSON.parse(JSON.stringify({ ...registry, signers: registry.signers.slice(0, 2) }));
const pemWith = (der) => `-----BEGIN PUBLIC KEY-----\n${der.toString("base64").match(/.{1,64}/g).join("\n")}\n-----END PUBLIC KEY-----\n`;
const rsaPem = (modulusLength, publicExponent = 65_537) => pemOf(crypto.generateKeyPairSync("rsa", { modulusLength, publicExponent }).publicKey);

/** The point and one of order two, together: (x, y) → (−x, −y). */
function negated(raw) {
  const p = 2n ** 255n - 19n, all = BigInt(`0x${Buffer.from(raw).reverse().toString("hex")}`), y = all & (2n ** 255n - 1n), sign = all >> 255n;
  return Buffer.from(((p - y) | ((1n - sign) << 255n)).toString(16).padStart(64, "0"), "hex").reverse();
}

/** A signature whose R is the zero of the group: the equation holds, and strict verifiers refuse it. */
function zeroNonce(key, message) {
  const order = 2n ** 252n + 27742317777372353535851937790883648493n, little = (bytes) => BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`);
  const head = Buffer.from(sha("sha512", key.privateKey.export({ type: "pkcs8", format: "der" }).subarray(-32)).subarray(0, 32));
  head[0] &= 248; head[31] &= 127; head[31] |= 64;
  const atR = Buffer.concat([Buffer.of(1), Buffer.alloc(31)]), k = little(sha("sha512", atR, key.raw, message));
  return Buffer.concat([atR, Buffer.from(((k * little(head)) % order).toString(16).padStart(64, "0"), "hex").reverse()]);
}
