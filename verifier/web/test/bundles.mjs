// What the page says of `.evidence` files (FORMAT.md §9.3), of policies, and of checkpoints signed with ML-DSA-44: good,
// altered in every field, forged by whoever has the ledger's key, of another ledger, under keys that were retired or
// compromised. The auditor's program is asked about each of them.

import { strict as assert } from "node:assert";
import { sign } from "node:crypto";
import { canonical, cbor, Cosigner, Ledger, makeKey, policyOf, sha, strangersLine, textOf, vkeyOf } from "./ledger.mjs";
import { doubled, letters, mutants } from "./mutants.mjs";

const MESSAGE = Buffer.from("pay 100 to bob");
const text = (value) => JSON.stringify(value);
const OBJECTS = [{ name: "checkpoint/000000000000", versionId: "v.1" }, { name: "tile/entries/000.p/9", versionId: "3HL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY" }];
const ARCHIVE = { location: "s3://audit/prod", objects: OBJECTS };

/** A ledger with bundles of it: small, so that each is read in a moment. */
export async function makeBundles(mlDsa, origin = "log.example/bundles") {
  const ledger = new Ledger(origin), at = {};
  const signer = ledger.activate(ledger.addSigner("ed25519", "orders-v1"));
  signer.signMessage = makeSigner(signer);
  at.issued = await ledger.issue(signer, MESSAGE);
  at.message = await ledger.issue(signer, MESSAGE, { operation: "sign-message" });
  at.event = ledger.append({ eventType: "order.paid", actor: "bob", stream: "bobs", payload: { total: 12.5, text: "é\u2028" } });
  const published = ledger.publish(), size = ledger.leaves.length;
  const witness = new Cosigner("witness.example/one"), later = new Cosigner("witness.example/later"), quantum = new Cosigner("witness.example/quantum", mlDsa["ml-dsa-44"]);
  const note = await ledger.cosigned(size, [witness]), policy = policyOf(ledger.vkeys(), [witness]);
  while (ledger.leaves.length < 17) ledger.append({ eventType: "note", actor: "bob", stream: "bobs", payload: { n: ledger.leaves.length } });
  const second = ledger.leaves.length, secondNote = await ledger.cosigned(second, [later]);
  const next = ledger.activate(ledger.addSigner("ed25519", "orders-v2"));
  next.signMessage = makeSigner(next);
  const newer = ledger.publish(2), third = ledger.leaves.length, thirdNote = await ledger.cosigned(third, [later, quantum]);
  const laterPolicy = policyOf(ledger.vkeys(), [later]), quantumPolicy = policyOf(ledger.vkeys(), [later, quantum]);
  const bundle = (index, changes = {}) => ledger.evidence(index, published, { size, note, ...changes });
  const renewals = (index) => [ledger.renewal(index, published, { before: size, size: second, note: secondNote, policy: laterPolicy }),
    ledger.renewal(index, published, { before: second, size: third, note: thirdNote, policy: quantumPolicy, newer })];
  const full = async (index, changes = {}) => bundle(index, { cose: await ledger.cose(index, size), policy, archive: ARCHIVE, renewals: renewals(index), ...changes });
  return { ledger, at, signer, published, newer, size, second, third, note, secondNote, thirdNote, witness, later, quantum, policy, laterPolicy, quantumPolicy, bundle, full, renewals, registry: newer.file, older: published.file };
}
const makeSigner = (key) => (message) => sign(null, message, key.privateKey);

/** `[name, act]`; an act returns how many pieces of evidence it gave. `mlDsa` has keys, or their shapes. */
export async function bundleCases(tab, world, mlDsa, mlDsaKnown, auditor) {
  const { ledger, at, published, newer, size, second, third, note, witness, later, quantum, policy, bundle, full, renewals, registry, older } = world;
  const cases = [], add = (name, act) => cases.push([`evidence: ${name}`, act]), VALID = mlDsaKnown ? "valid" : "valid-in-part";
  const index = at.issued, everything = await full(index), plain = bundle(index);
  const says = async (given, verdict, checks = {}, words = undefined, { name = "this" } = {}) => {
    const told = await tab.give(given), about = text(told.checks);
    assert.doesNotMatch(told.reason, /This page has a fault/);
    assert.equal(told.verdict, verdict, `${name}: ${told.reason} ${about}`);
    for (const [id, state] of Object.entries(checks)) assert.equal(told.checks[id], state, `${name}: ${id}: ${told.why[id]} ${about}`);
    if (words) assert.match(`${told.title} ${told.reason} ${Object.values(told.why).join(" ")} ${told.limits} ${told.notice}`, words);
    assert.deepEqual(await auditor.disagrees([[name, given, verdict]]), []);
    return 1;
  };
  /** Each of `[name, evidence]` beside the same registry and policy; those that match `harmless` stay valid. */
  const many = async (all, beside, { harmless = /(?!)/, failing = undefined, verdict = "not-valid", slot = "receipt" } = {}) => {
    await tab.give(beside);
    const told = await tab.giveMany(slot, all.map(([, evidence]) => evidence)), asked = [], wrong = [];
    told.forEach(({ verdict: said, reason, failed }, place) => {
      const [name, evidence] = all[place], wanted = harmless.test(name) ? "valid" : verdict;
      if (said !== wanted && !(wanted === "valid" && said === VALID)) wrong.push({ name, said, reason });
      else if (/This page has a fault/.test(reason)) wrong.push({ name, reason });
      else if (failing && said === "not-valid" && !failed.includes(failing)) wrong.push({ name, failed });
      asked.push([name, { ...beside, [slot]: evidence }, said]);
    });
    assert.deepEqual(wrong, [], `${wrong.length} of ${all.length} told otherwise`);
    const others = await auditor.disagrees(asked);
    assert.deepEqual(others, [], `the auditor says otherwise of ${others.length} of ${all.length}`);
    return all.length;
  };
  const given = (evidence, more = {}) => ({ receipt: text(evidence), registry, ...more });

  // ---- Good

  add("the least there is", () => says(given(plain), "valid", { "checkpoint": "checked", "inclusion": "checked", "signature": "checked", "published": "checked", "registry-checkpoint": "checked", "registry-inclusion": "checked", "agrees": "checked", "history": "checked" }));
  add("everything there is", () => says(given(everything), VALID, {
    "cose": "checked", "archive": "open", "cosigned": "checked", "witnesses": "open", "renewal-1-checkpoint": "checked", "renewal-1-continues": "checked", "renewal-1-entry": "checked",
    "renewal-1-registry": "checked", "renewal-1-cosigned": "checked", "renewal-2-newer": "checked", "renewal-2-newer-entry": "checked", "renewal-2-cosigned": mlDsaKnown ? "checked" : "open",
  }, /renewed 2 times[^]*makes no request/));
  add("with the older registry", () => says(given(everything, { registry: older }), VALID, { agrees: "checked" }));
  for (const [name, who] of [["of then", witness], ["of later", later]])
    add(`a policy of witnesses ${name}`, () => says(given(everything, { policy: policyOf([], [who]) }), VALID, { witnesses: "checked" }, new RegExp(who.name)));
  add("a policy of witnesses who sign with ML-DSA-44", () => says(given(everything, { policy: policyOf([], [quantum]) }), mlDsaKnown ? "valid" : "cannot-decide", { witnesses: mlDsaKnown ? "checked" : "open" }));
  add("a policy that asks for nobody", () => says(given(everything, { policy: policyOf([], []) }), VALID, { witnesses: "checked" }, /nobody’s word/));
  add("a policy of strangers", () => says(given(everything, { policy: policyOf([], [new Cosigner("witness.example/x")]) }), "not-valid", { witnesses: "failed" }, /Too few witnesses of your policy/));
  for (const [name, mine] of [["event", at.event], ["first entry", 0], ["entry that published the registry", published.index]])
    add(`of an ${name}`, async () => says(given(await full(mine)), VALID, { signature: "none", cose: "checked" }));
  add("of a message, with and without it", async () => {
    const evidence = await full(at.message, { renewals: [] });
    await says(given(evidence), "valid-in-part", { signature: "open" }, /give the message/);
    await says(given(evidence, { file: MESSAGE }), "valid", { signature: "checked", file: "checked" });
    return 2 + await says(given(evidence, { file: "pay 999 to bob" }), "not-valid", { file: "failed" });
  });
  add("the file that was signed, and another", async () => await says(given(plain, { file: MESSAGE }), "valid", { file: "checked" }) + await says(given(plain, { file: "x" }), "not-valid", { file: "failed" }));
  add("in other layouts", () => many([["indented", JSON.stringify(everything, null, 2)], ["turned round", text(Object.fromEntries(Object.entries(everything).reverse()))],
    ["escaped", text(everything).replaceAll("witness", "\\u0077itness")], ["the event turned round", text({ ...everything, event: Object.fromEntries(Object.entries(everything.event).reverse()) })]], given(everything), { verdict: VALID }));
  add("renewals over trees of every shape", async () => {
    const small = new Ledger("log.example/shapes"), all = [];
    const first = small.publish();
    while (small.leaves.length < 18) small.append({ eventType: "note", actor: "bob", stream: "bobs", payload: { n: small.leaves.length } });
    for (const old of [3, 4, 5, 6, 7, 8, 9, 12, 16]) for (const size of [4, 5, 7, 8, 9, 13, 16, 17, 18]) if (size > old)
      all.push([`${old} to ${size}`, text(small.evidence(1, first, { size: old, note: small.checkpoint({ size: old }), renewals: [small.renewal(1, first, { before: old, size, note: small.checkpoint({ size }) })] }))]);
    return many(all, { receipt: text(plain), registry: first.file }, { verdict: "valid" });
  });
  add("a renewal of the same tree, by other signatures", async () => {
    const again = await ledger.cosigned(size, [later]), evidence = bundle(index, { renewals: [ledger.renewal(index, published, { before: size, size, note: again })] });
    return says(given(evidence), "valid", { "renewal-1-continues": "checked" }, /same tree, with other signatures/);
  });
  add("the registry under another checkpoint than the entry", async () => {
    const early = index + 1, evidence = ledger.evidence(index, published, { size: early, note: await ledger.cosigned(early), registryNote: note, registrySize: size });
    return says(given(evidence), "valid", { "registry-inclusion": "checked", "history": "checked" }, /2 trees/);
  });
  add("an entry nested 64 deep, which is allowed", async () => {
    const deep = new Ledger("log.example/deep"), mine = deep.append({ eventType: "note", actor: "bob", stream: "deep", payload: JSON.parse(`${'{"a":'.repeat(64)}1${"}".repeat(64)}`) });
    const first = deep.publish(), count = deep.leaves.length, evidence = deep.evidence(mine, first, { size: count, note: deep.checkpoint() });
    return says({ receipt: text(evidence), registry: first.file }, "valid");
  });
  add("lines by strangers are counted, not believed", async () => says(given(bundle(index, { note: await ledger.cosigned(size, [], { lines: [strangersLine(), strangersLine(ledger.origin)] }) })), "valid", {}, /2 signatures by keys/));

  // ---- Whom to believe

  add("nothing from outside", () => says({ receipt: text(everything) }, "cannot-decide", { "checkpoint": "checked", "signature": "checked", "anchor": "open", "registry": "open" }, /nothing outside the file says/));
  for (const who of [witness, later]) add(`the policy alone, of ${who.name}`, () => says({ receipt: text(everything), policy: policyOf(ledger.vkeys(), [who]) }, who === later ? VALID : "cannot-decide", { anchor: who === later ? "checked" : "open", witnesses: "checked" }));
  add("the policy alone, of then, where no newer registry came", async () => says({ receipt: text(await full(index, { renewals: renewals(index).slice(0, 1) })), policy }, "valid", { anchor: "checked", witnesses: "checked" }, /vouch for its keys/));
  add("the policy alone, of another log", () => says({ receipt: text(everything), policy: policyOf([vkeyOf("log.example/other", makeKey("ed25519").raw)], [witness]) }, "not-valid", { witnesses: "failed" }, /does not name the log/));
  add("the policy alone, of another key of this log", () => says({ receipt: text(everything), policy: policyOf([vkeyOf(ledger.origin, makeKey("ed25519").raw)], [witness]) }, "not-valid", { witnesses: "failed" }));
  add("the policy alone, of a renewal before the newer registry", async () => {
    const middle = new Cosigner("witness.example/middle"), [, last] = renewals(index), renewal = ledger.renewal(index, published, { before: size, size: second, note: await ledger.cosigned(second, [middle]) });
    const mine = policyOf(ledger.vkeys(), [middle]);
    await says({ receipt: text(bundle(index, { renewals: [renewal, last] })), policy: mine }, "cannot-decide", { witnesses: "checked", anchor: "open" });
    return 1 + await says({ receipt: text(bundle(index, { renewals: [renewal] })), policy: mine }, "valid", { witnesses: "checked", anchor: "checked" });
  });
  add("the policy alone, over no checkpoint of the registry", async () => {
    const early = index + 1, mine = await ledger.cosigned(early, [witness]), evidence = ledger.evidence(index, published, { size: early, note: mine, registryNote: await ledger.cosigned(size), registrySize: size });
    await says({ receipt: text(evidence), policy }, "cannot-decide", { anchor: "open", witnesses: "checked" }, /nothing vouches for its keys/);
    return 1 + await says(given(evidence, { policy }), "valid", { witnesses: "checked" });
  });
  add("a receipt and a policy", async () => {
    const receipt = textOf(ledger.receipt(index, { size })), seen = textOf({ ...ledger.receipt(index, { size }), checkpoint: note });
    assert.equal((await tab.give({ receipt: seen, registry, policy })).checks.witnesses, "checked");
    const told = await tab.give({ receipt, registry, policy });
    assert.deepEqual([told.verdict, told.checks.witnesses], ["not-valid", "failed"]);
    return 2;
  });

  // ---- Altered

  const untold = /^\.(?:cose|policy|archive) removed$|^\.renewals\[\d\]\.(?:policy|registry) removed$|^\.renewals\[1\] removed$|^\.archive\.location (?:other beginning|longer)$|^\.archive\.objects\[\d\]\.versionId (?:other beginning|longer)$|^\.archive\.objects\[1\]\.name longer$|^\.archive\.objects\[\d\] removed$/;
  add("altered, every field", () => many([...mutants(everything)].map(([path, changed]) => [path, text(changed)]), given(everything), { harmless: untold }));
  add("altered, every field, without a registry", () => many([...mutants(everything)].map(([path, changed]) => [path, text(changed)]).filter(([path]) => !untold.test(path) && !path.startsWith(".event")), { receipt: text(everything), policy: policyOf(ledger.vkeys(), [later]) }));
  add("altered entry with its hash made right", () => {
    const all = [];
    for (const part of ["event", "registry"]) for (const [path, event] of mutants(part === "event" ? everything.event : everything.registry.event)) {
      if (event === null || typeof event !== "object" || Array.isArray(event) || !("hash" in event)) continue;
      event.hash = sha("sha256", canonical({ ...event, hash: undefined })).toString("hex");
      const before = part === "event" ? everything.event : everything.registry.event;
      if (canonical(event) !== canonical(before)) all.push([`${part}${path}`, text(part === "event" ? { ...everything, event } : { ...everything, registry: { ...everything.registry, event } })]);
    }
    return many(all, given(everything));
  });
  add("members written twice", () => many([...doubled(everything)], given(everything), { failing: "receipt" }));
  const apart = await full(index, { registryNote: ledger.checkpoint({ size }) });
  for (const [name, read, write] of [["its proof", (evidence) => evidence.proof, (proof) => ({ ...everything, proof })],
    ["the registry’s proof", () => apart.registry.proof, (proof) => ({ ...apart, registry: { ...apart.registry, proof } })],
    ["the policy", (evidence) => evidence.policy, (changed) => ({ ...everything, policy: changed })],
    ["a renewal’s checkpoint", (evidence) => evidence.renewals[0].checkpoint, (checkpoint) => ({ ...everything, renewals: everything.renewals.with(0, { ...everything.renewals[0], checkpoint }) })]]) {
    // The names inside a policy, and its log’s key, are nobody's business here.
    const free = name === "the policy" ? new RegExp(`^letter (?:${freeLetters(everything.policy).join("|")})$`) : /(?!)/;
    add(`altered letter by letter: ${name}`, () => many([...letters(read(everything))].map(([where, changed]) => [where, text(write(changed))]).filter(([where]) => !free.test(where)), given(everything)));
  }
  add("altered bit by bit: the COSE receipt", () => {
    const good = Buffer.from(everything.cose, "base64"), all = [];
    for (let place = 0; place < good.length; place += 1) for (const bit of [0, 5]) {
      const bytes = Buffer.from(good);
      bytes[place] ^= 1 << bit;
      all.push([`byte ${place}, bit ${bit}`, text({ ...plain, cose: bytes.toString("base64") })]);
    }
    return many(all, given(plain));
  });
  add("texts that are no tlog-proof", () => {
    const { proof } = plain, changed = (from, to) => { assert.ok(proof.includes(from), from); return proof.replace(from, to); };
    const all = [["extra", changed("index", "extra AAAA\nindex")], ["leading zero", changed("index ", "index 0")], ["carriage return", changed("\n", "\r\n")], ["no index", changed(/index \d+\n/.exec(proof)[0], "")],
      ["another version", changed("@v1", "@v2")], ["no empty line", changed("\n\n", "\n")], ["a hash too many", changed("\n\n", `\n${"A".repeat(43)}=\n\n`)], ["an index of 30 digits", changed("index ", "index 100000000000000000000000000000")],
      ["a space behind", `${proof} `], ["short hash", changed("\n\n", "\nAAAA\n\n")]];
    return many(all.map(([name, told]) => [name, text({ ...plain, proof: told })]), given(plain));
  });

  // ---- COSE receipts

  const withCose = async (options, of = index, at_ = size) => text({ ...plain, cose: (await ledger.cose(of, at_, options)).toString("base64") });
  add("COSE: by the other name of Ed25519, and of another tree", async () => many([["-19", await withCose({ algorithm: -19 })], ["larger", await withCose({}, index, third)], ["smaller", await withCose({}, index, index + 1)]], given(plain), { verdict: "valid" }));
  add("COSE: what is none", async () => {
    const { number, bytes, text: word, list, map, tag } = cbor, key = { ...ledger.ledgerKeys[0], ...makeKey("ed25519") };
    const claims = (origin = ledger.origin, count = size) => map([number(1), word(origin)], [number(-65537), number(count)]), header = (...pairs) => map(...pairs);
    const alg = [number(1), number(-8)], cwt = [number(15), claims()], vds = [number(395), number(1)], path = ledger.proof(index, size), proof = bytes(list(number(size), number(index), list(...path.map((hash) => bytes(hash)))));
    const good = await ledger.cose(index, size), inside = good.subarray(1), cut = (bytes_) => text({ ...plain, cose: bytes_.toString("base64") });
    const all = [["of another entry", await withCose({}, at.message)], ["of another place", await withCose({ place: index + 1 })], ["of another ledger", await withCose({ origin: "log.example/other" })], ["by another key", await withCose({ key })],
      ["over another root", await withCose({ root: Buffer.alloc(32) })], ["of another size", await withCose({ claimed: third })], ["no place in the tree", await withCose({ place: size })], ["a hash too many", await withCose({ path: [...path, Buffer.alloc(32)] })],
      ["a hash too few", await withCose({ path: path.slice(1) })], ["RS256", await withCose({ algorithm: -257 })], ["a short signature", await withCose({ signature: Buffer.alloc(63) })], ["no signature", await withCose({ signature: Buffer.alloc(0) })],
      ["another structure", await withCose({ protects: header(alg, cwt, [number(395), number(2)]) })], ["no claims", await withCose({ protects: header(alg, vds) })], ["a header more", await withCose({ protects: header(alg, [number(4), bytes(Buffer.of(1))], cwt, vds) })],
      ["headers in another order", await withCose({ protects: header(cwt, alg, vds) })], ["a claim more", await withCose({ protects: header(alg, [number(15), map([number(1), word(ledger.origin)], [number(2), word("x")], [number(-65537), number(size)])], vds) })],
      ["a list for the headers", await withCose({ protects: list(list(...alg), list(...cwt), list(...vds)) })], ["a list for the proofs", await withCose({ proofs: list(list(number(396), map([number(-1), list(proof)]))) })],
      ["a list for the proof’s kind", await withCose({ proofs: map([number(396), list(list(number(-1), list(proof)))]) })], ["consistency", await withCose({ proofs: map([number(396), map([number(-2), list(proof)])]) })],
      ["two proofs", await withCose({ proofs: map([number(396), map([number(-1), list(proof, proof)])]) })], ["an unprotected header more", await withCose({ proofs: map([number(4), bytes(Buffer.of(1))], [number(396), map([number(-1), list(proof)])]) })],
      ["without its tag", cut(inside)], ["another tag", cut(Buffer.concat([Buffer.of(0xd3), inside]))], ["a byte behind", cut(Buffer.concat([good, Buffer.of(0)]))], ["a long head", cut(Buffer.concat([Buffer.of(0xd8, 18), inside]))],
      ["without an end", cut(Buffer.concat([Buffer.of(0xd2, 0x9f), inside.subarray(1), Buffer.of(0xff)]))], ["a root in it", cut(Buffer.from(good.toString("hex").replace("f65840", `5820${"00".repeat(32)}5840`), "hex"))],
      ["undefined for null", cut(Buffer.from(good.toString("hex").replace("f65840", "f75840"), "hex"))], ["nothing", cut(Buffer.alloc(0))], ["an endless list", cut(Buffer.from("d29bffffffffffffffff", "hex"))], ["deep", cut(Buffer.alloc(4096, 0x81))],
      ["large", cut(Buffer.alloc(17 * 1024))], ["base64 for the web", text({ ...plain, cose: good.toString("base64url") })], ["base64 with a line end", text({ ...plain, cose: `${good.toString("base64")}\n` })]];
    return many(all, given(plain));
  });

  // ---- Renewals, histories, policies, archives

  const renewed = (changes, of = renewals(index)[0]) => text({ ...plain, renewals: [{ ...of, ...changes }] });
  add("renewals that are none", async () => {
    const other = new Ledger(ledger.origin);
    while (other.leaves.length < second) other.append({ eventType: "note", actor: "bob", stream: "bobs", payload: {} });
    const [first] = renewals(index), back = ledger.renewal(index, published, { before: size, size, note });
    const all = [["the checkpoint before", renewed({}, back)], ["by another ledger of the name", renewed({ checkpoint: other.checkpoint({ size: second }) })], ["another tree by the ledger’s key", renewed({ checkpoint: other.checkpoint({ size: second, keys: ledger.ledgerKeys }) })],
      ["unsigned", renewed({ checkpoint: `${ledger.body(second)}\n${strangersLine()}` })], ["no checkpoint", renewed({ checkpoint: "x" })], ["smaller", text({ ...bundle(index, { size: second, note: world.secondNote }), renewals: [{ ...back, consistencyProof: [] }] })],
      ["the proof turned round", renewed({ consistencyProof: [...first.consistencyProof].reverse() })], ["no proof", renewed({ consistencyProof: [] })], ["a hash too many", renewed({ consistencyProof: [...first.consistencyProof, "00".repeat(32)] })],
      ["the entry’s proof for the registry", renewed({ registryProof: first.inclusionProof })], ["64 hashes", renewed({ consistencyProof: Array(64).fill("00".repeat(32)) })], ["capitals", renewed({ inclusionProof: first.inclusionProof.map((hash) => hash.toUpperCase()) })],
      ["twice the same", text({ ...plain, renewals: [first, { ...first, consistencyProof: [] }] })], ["out of order", text({ ...plain, renewals: renewals(index).reverse() })],
      ["too many", text({ ...plain, renewals: Array(65).fill(first) })], ["null for no policy", renewed({ policy: null })], ["the policy of others", renewed({ policy: policyOf([], [new Cosigner("witness.example/x")]) })]];
    return many(all, given(plain));
  });
  add("two histories", async () => {
    const other = new Ledger(ledger.origin), old = at.issued + 1;
    while (other.leaves.length < size) other.append({ eventType: "note", actor: "bob", stream: "bobs", payload: {} });
    other.leaves[published.index] = ledger.leaves[published.index];
    const forked = other.checkpoint({ size, keys: ledger.ledgerKeys }), evidence = { ...plain, registry: { ...plain.registry, proof: other.tlogProof(published.index, size, forked) } };
    await says(given(evidence), "not-valid", { "registry-inclusion": "checked", "history": "failed" }, /two histories/);
    return 1 + await says(given({ ...evidence, proof: ledger.tlogProof(index, old, ledger.checkpoint({ size: old })) }), "valid", { history: "checked" });
  });
  add("renewals of another history, by the ledger’s key", async () => {
    const [real] = renewals(index), forkedAt = (place) => {
      const other = new Ledger(ledger.origin);
      other.leaves = ledger.leaves.map((leaf, at_) => (at_ === place ? Buffer.from(leaf.toString().replace("bobs", "eves")) : leaf));
      return { other, note: other.checkpoint({ size: second, keys: ledger.ledgerKeys }) };
    };
    const before = forkedAt(at.event), after = forkedAt(size + 1), paths = ({ other, note: checkpoint }) => other.renewal(index, published, { before: size, size: second, note: checkpoint });
    // The first leads to the new root and not to the old; the second the other way round.
    for (const [name, renewal] of [["changed before", paths(before)], ["changed after", { ...paths(after), consistencyProof: real.consistencyProof }]])
      await says(given(bundle(index, { renewals: [renewal] })), "not-valid", { "renewal-1-checkpoint": "checked", "renewal-1-entry": "checked", "renewal-1-registry": "checked", "renewal-1-continues": "failed" }, undefined, { name });
    return 3 + await says(given(bundle(index, { renewals: [paths(after)] })), "valid", { "renewal-1-continues": "checked" });
  });
  add("a registry that is published as none is, by the ledger’s key", async () => {
    const forged = new Ledger(ledger.origin + "/2"), file = text(forged.registry()), payload = { sha256: sha("sha256", file).toString("hex"), version: 1 }, all = [];
    const draft = { eventType: "registry.published", actor: "chancery", stream: "chancery", payload };
    const places = [["by a service", { ...draft, actor: "bob", stream: "bobs" }], ["with a wrong hash of its own", { ...draft, hash: "ab".repeat(32) }], ["with another entry’s id", { ...draft, id: forged.idOf(0) }], ["in an entry of another kind", { ...draft, eventType: "policy.loaded" }],
      ["without a version", { ...draft, payload: { sha256: payload.sha256 } }]].map(([name, of]) => [name, forged.append(of)]);
    const good = forged.append(draft), count = forged.leaves.length, of = (place) => text(forged.evidence(1, { index: place, file }, { size: count, note: forged.checkpoint() }));
    for (const [name, place] of places) all.push([name, of(place)]);
    await says({ receipt: of(good), registry: file }, "valid", { published: "checked" });
    return 1 + await many(all, { receipt: of(good), registry: file });
  });
  add("a registry that the entry beside it does not publish", async () => {
    const file = published.file.replace("made by a test", "made by a thief"), other = { ...plain.registry };
    assert.notEqual(file, published.file);
    return many([["another text", text({ ...plain, registry: { ...other, file } })], ["another entry", text({ ...plain, registry: { ...other, event: plain.event, proof: plain.proof } })],
      ["the newer one’s entry", text({ ...plain, registry: { ...other, event: JSON.parse(ledger.leaves[newer.index].toString()) } })], ["no registry", text({ ...plain, registry: { ...other, file: "{}" } })]], given(plain));
  });
  add("a registry that contradicts the one that is trusted", async () => {
    const changed = (change) => text({ ...JSON.parse(registry), signers: JSON.parse(registry).signers.map((signer) => (signer.signer_kid === "orders-v1" ? { ...signer, ...change } : signer)) });
    await says(given(plain, { registry: changed({ activatedIndex: 1 }) }), "not-valid", { agrees: "failed" }, /activated at/);
    return 1 + await says(given(plain, { registry: changed({ public_key_pem: makeKey("ed25519").publicPem }) }), "not-valid", { agrees: "failed", signature: "failed" }, /different keys by the name/);
  });
  add("false lines, wherever they stand", async () => {
    const body = ledger.body(size), flip = (bytes) => { bytes[30] ^= 1; return bytes; }, false_ = await later.line(body, { change: flip }), right = await later.line(body), mine = await witness.line(body);
    const noted = (lines) => ledger.checkpoint({ size, lines }), of = (lines, changes = {}) => bundle(index, { note: noted(lines), registryNote: note, renewals: renewals(index).slice(0, 1), ...changes });
    const all = [["by a witness of a later policy", of([mine, false_])], ["twice by one witness", of([right, right])], ["for another time", of([await later.line(body, { change: (bytes) => { bytes[7] ^= 1; return bytes; } })])],
      ["of another tree", of([await later.line(body, { of: ledger.body(second) })])], ["short", of([await later.line(body, { change: (bytes) => bytes.subarray(0, 20) })])], ["of the year 2^63", of([await later.line(body, { time: 2n ** 63n })])],
      ["over the registry", bundle(index, { registryNote: noted([false_]), renewals: renewals(index).slice(0, 1) })]];
    await many(all.map(([name, told]) => [name, text(told)]), given(plain));
    // Nobody in the file names this witness; whoever trusts it does.
    const unnamed = bundle(index, { note: noted([mine, false_]) });
    return all.length + await says(given(unnamed), "valid") + await says(given(unnamed, { policy: policyOf([], [later, witness], "any") }), "not-valid", { witnesses: "failed" }, /does not verify/);
  });
  add("the file’s own policy is not met", () => says(given({ ...plain, policy: policyOf([], [witness, later]) }), "not-valid", { cosigned: "failed" }, /Too few witnesses of the file’s own policy/));
  add("archives", async () => {
    const of = (objects, location = "s3://b/p") => text({ ...plain, archive: { location, objects } }), one = (name, versionId = "v") => of([{ name, versionId }]);
    const good = ["checkpoint/000000000000", "checkpoint/1000000000000", "registry/00000001.json", "registry/00000001.json.sig", "tile/0/000", "tile/63/x001/234", "tile/entries/x018/x446/x744/x073/x709/x551/615", "tile/entries/000.p/255", "tile/0/000.p/1"];
    const bad = ["checkpoint/0", "checkpoint/0100000000000", "registry/1.json", "registry/00000001.sig", "tile/64/000", "tile/00/000", "tile/0/0", "tile/0/x000/000", "tile/0/001/000", "tile/entries/000.p/0", "tile/entries/000.p/256", "tile/entries/000.p/01", "tile/entries/x018/x446/x744/x073/x709/x551/616", "x", "", "/tile/0/000", "tile/0/000/", "../x"];
    await many([...good.map((name) => [name, one(name)]), ["at the limit", of(Array.from({ length: 64 }, (_, place) => ({ name: `checkpoint/${String(place).padStart(12, "0")}`, versionId: "x".repeat(1024) })))]], given(plain), { verdict: "valid" });
    const first = { name: "tile/0/000", versionId: "1" };
    return good.length + 1 + await many([...bad.map((name) => [`name ${name}`, one(name)]), ["nothing", of([])], ["twice", of([first, first])], ["twice, other versions", of([first, { ...first, versionId: "2" }])], ["out of order", of([{ ...first, name: "tile/0/001" }, first])],
      ["no version", one("tile/0/000", "")], ["a space", one("tile/0/000", "a b")], ["a long version", one("tile/0/000", "x".repeat(1025))], ["no location", of([first], "")], ["é", of([first], "s3://é")], ["a member more", of([{ ...first, x: 1 }])], ["null", text({ ...plain, archive: null })],
      ["65 objects", of(Array.from({ length: 65 }, (_, place) => ({ name: `checkpoint/${String(place).padStart(12, "0")}`, versionId: "x" })))]], given(plain));
  });
  add("policies in every form", async () => {
    const [one, two] = [witness.vkey, later.vkey], body = ledger.body(size), both = bundle(index, { note: ledger.checkpoint({ size, lines: [await witness.line(body), await later.line(body)] }) }), log = `log ${ledger.vkeys()[0]}\n`;
    const lone = bundle(index), met = [`witness a ${one}\nquorum a\n`, `# told\n\n \twitness\ta  ${one} https://w.example/\n\t#x\nquorum a\n`, `${log}witness a ${one}\nwitness b ${two}\ngroup g 2 a b\nquorum g\n`, `witness a ${one}\nwitness b ${two}\ngroup g any a b\ngroup h all g\nquorum h\n`,
      Buffer.concat([Buffer.from(`witness `), Buffer.of(0xff, 0x80), Buffer.from(` ${one}\nquorum `), Buffer.of(0xff, 0x80), Buffer.from("\n")]), `witness a ${one}\nwitness b ${two}\nquorum a\n`, `quorum none\n`];
    await many(met.map((told, place) => [`met ${place}`, told]), given(both, { policy: met[0] }), { slot: "policy", verdict: "valid" });
    const unmet = [`witness b ${two}\nquorum b\n`, `witness a ${one}\nwitness b ${two}\ngroup g all a b\nquorum g\n`, `witness a ${one}\nwitness b ${two}\ngroup g 2 a b\ngroup h any g\nquorum h\n`];
    await many(unmet.map((told, place) => [`unmet ${place}`, told]), given(lone, { policy: met[0] }), { slot: "policy", failing: "witnesses" });
    const none = ["quorum a\n", `witness a ${one}\n`, `witness a ${one}\nquorum a`, `witness a ${one}\nquorum a\nquorum a\n`, `witness none ${one}\nquorum none\n`, `witness a ${one}\nwitness b ${one}\nquorum a\n`, `witness a ${one}\nwitness a ${two}\nquorum a\n`,
      `witness a ${one}\ngroup g 2 a\nquorum g\n`, `witness a ${one}\ngroup g 0 a\nquorum g\n`, `witness a ${one}\ngroup g 01 a\nquorum g\n`, `witness a ${one}\ngroup g any\nquorum g\n`, `witness a ${one}\ngroup g any a\ngroup h any a\nquorum h\n`, `group g any a\nwitness a ${one}\nquorum g\n`,
      `witness a ${one}\r\nquorum a\r\n`, `witness a ${one}\nquorum a\n\u0001\n`, `witness a ${one} x y\nquorum a\n`, `witness a ${ledger.vkeys()[0]}\nquorum a\n`, `log ${one}\nquorum none\n`, `${log}${log}quorum none\n`, `lög x\nquorum none\n`, `witness a ${one.slice(0, -4)}\nquorum a\n`, `witness a ${one}\nquorum a b\n`, "#"];
    return met.length + unmet.length + await many(none.map((told, place) => [`none ${place}`, told]), given(lone, { policy: met[0] }), { slot: "policy", verdict: "cannot-decide" });
  });

  // ---- Registries, and the lives of keys

  add("another ledger’s registry", async () => {
    const other = new Ledger("log.example/other"), same = new Ledger(ledger.origin);
    return await says(given(everything, { registry: text(other.registry()) }), "not-valid", { checkpoint: "failed", cose: "failed", agrees: "failed" }) + await says(given(everything, { registry: text(same.registry()) }), "not-valid", { checkpoint: "failed" });
  });
  add("a whole ledger of the same name, by somebody else", async () => {
    const forged = await makeBundles(mlDsa, ledger.origin), evidence = await forged.full(forged.at.issued);
    await says({ receipt: text(evidence) }, "cannot-decide", { signature: "checked", anchor: "open" });
    await says({ receipt: text(evidence), policy: policyOf(ledger.vkeys(), [witness]) }, "not-valid", { witnesses: "failed" });
    return 2 + await says(given(evidence), "not-valid", { checkpoint: "failed" });
  });
  add("a registry that cannot be read", () => says(given(everything, { registry: registry.slice(0, -3) }), "cannot-decide", { registry: "failed" }));
  const lived = (change, which = "orders-v1") => text({ ...JSON.parse(registry), signers: JSON.parse(registry).signers.map((signer) => (signer.signer_kid === which ? { ...signer, ...change } : signer)) });
  const life = (name, change, verdict, checks, words, options) => add(name, () => says(given(everything, { registry: lived(change, options?.which) }), verdict, checks, words, options));
  life("key retired before", { state: "retired", retiredIndex: index }, "not-valid", { signature: "failed", published: "checked" }, /was retired at entry/);
  life("key retired after", { state: "retired", retiredIndex: index + 1 }, VALID, { signature: "checked" }, /was retired later/);
  life("key compromised before", { state: "compromised", compromisedSince: index }, "not-valid", { signature: "failed", cose: "checked" }, /is compromised since entry/);
  life("key compromised after", { state: "compromised", compromisedSince: index + 1 }, VALID, { signature: "checked" }, /before it, by the order of the ledger/);
  life("ledger key retired before", { state: "retired", retiredIndex: 1 }, "not-valid", { "ledger-key": "failed", "checkpoint": "failed" }, /was retired/, { which: "ledger-v1" });
  life("ledger key retired between the entry and its checkpoint", { state: "retired", retiredIndex: index + 1 }, "not-valid", { "ledger-key": "checked", "checkpoint": "failed" }, /was retired/, { which: "ledger-v1" });
  life("ledger key compromised before", { state: "compromised", compromisedSince: 1 }, "not-valid", { "ledger-key": "checked", "checkpoint": "failed", "cose": "failed" }, /is compromised/, { which: "ledger-v1" });
  life("ledger key compromised before a renewal", { state: "compromised", compromisedSince: size }, "not-valid", { "checkpoint": "checked", "renewal-1-checkpoint": "failed" }, /is compromised/, { which: "ledger-v1" });
  life("ledger key compromised after", { state: "compromised", compromisedSince: 100_000 }, VALID, {}, /can also sign a checkpoint that claims to be older/, { which: "ledger-v1" });

  cases.push(...hybridCases(mlDsa, mlDsaKnown, says, tab));
  return cases;
}

/** Letters of a policy that say nothing of who must have cosigned: its log's line, and names that it has alone. */
function freeLetters(policy) {
  const log = policy.indexOf("\n");
  return [...Array(log).keys()];
}

/** Checkpoints that the ledger signs with ML-DSA-44 beside Ed25519. */
function hybridCases(mlDsa, known, says, tab) {
  const cases = [], add = (name, act) => cases.push([`hybrid: ${name}`, act]), VALID = known ? "valid" : "valid-in-part", state = known ? "checked" : "open";
  const ledger = new Ledger("log.example/hybrid");
  ledger.addMlDsaKey(mlDsa["ml-dsa-44"]);
  const [key] = ledger.mlDsaKeys, index = ledger.append({ eventType: "note", actor: "bob", stream: "bobs", payload: {} }), published = ledger.publish(), registry = published.file, size = ledger.leaves.length;
  const receiptBy = (checkpoint) => textOf({ ...ledger.receipt(index), checkpoint });
  const told = async (receipt, verdict, checks, words, more = {}) => {
    const said = await tab.give({ receipt, registry, ...more });
    assert.equal(said.verdict, verdict, `${said.reason} ${text(said.checks)}`);
    for (const [id, wanted] of Object.entries(checks)) assert.equal(said.checks[id], wanted, `${id}: ${said.why[id]}`);
    if (words) assert.match(`${said.reason} ${Object.values(said.why).join(" ")}`, words);
    return 1;
  };
  add("a receipt", async () => told(receiptBy(await ledger.cosigned(size)), VALID, { "checkpoint": "checked", "checkpoint-ml-dsa": state }, known ? /It stands when Ed25519 falls/ : /no ML-DSA/));
  add("a receipt from before", () => told(receiptBy(ledger.checkpoint()), "valid", { "checkpoint": "checked", "checkpoint-ml-dsa": "none" }));
  add("the second signature is due where its key is active", async () => {
    const spki = Buffer.concat([Buffer.from("30820532300b06096086480165030403110382052100", "hex"), key.raw]).toString("base64");
    const pem = `-----BEGIN PUBLIC KEY-----\n${spki.match(/.{1,64}/g).join("\n")}\n-----END PUBLIC KEY-----\n`;
    const life = (more) => {
      const file = JSON.parse(registry);
      file.signers.push({ signer_kid: "ledger-pq-v1", kid: "ledger-pq", algorithm: "ml-dsa-44", public_key_pem: pem, purpose: "ledger", state: "active", deployedAt: "2026-11-21T03:46:35.120Z", description: "", ...more });
      return { registry: JSON.stringify(file) };
    };
    const last = size - 1, due = life({ activatedIndex: last });
    await told(receiptBy(await ledger.cosigned(size)), VALID, { "checkpoint": "checked", "checkpoint-ml-dsa": state }, undefined, due);
    await told(receiptBy(ledger.checkpoint()), "not-valid", { checkpoint: "failed" }, /lacks the ledger’s ML-DSA-44 signature/, due);
    const free = [{ activatedIndex: last + 1 }, { activatedIndex: 0, state: "retired", retiredIndex: last }, { activatedIndex: 0, state: "compromised", compromisedSince: last }];
    for (const more of free) await told(receiptBy(ledger.checkpoint()), "valid", { "checkpoint": "checked", "checkpoint-ml-dsa": "none" }, undefined, life(more));
    return 2 + free.length;
  });
  add("Ed25519 is asked for in any case", async () => told(receiptBy(`${ledger.body()}\n${await key.line(ledger.body(), { time: 0 })}`), "not-valid", { checkpoint: "failed" }, /no key of the registry signed it with Ed25519/));
  if (known) add("a false line refuses the checkpoint", async () => {
    const body = ledger.body(), many = [["a bit of the signature", await key.line(body, { change: (bytes) => { bytes[99] ^= 1; return bytes; } })], ["another time", await key.line(body, { change: (bytes) => { bytes[7] ^= 1; return bytes; } })],
      ["another tree", await key.line(body, { of: ledger.body(1) })], ["short", await key.line(body, { change: (bytes) => bytes.subarray(0, 100) })], ["long", await key.line(body, { change: (bytes) => Buffer.concat([bytes, Buffer.of(0)]) })], ["twice", (await key.line(body)).repeat(2)]];
    for (const [name, line] of many) {
      const checkpoint = ledger.checkpoint({ lines: [line] });
      await told(receiptBy(checkpoint), "not-valid", { checkpoint: "failed" });
      await says({ receipt: text(ledger.evidence(index, published, { size, note: checkpoint })), registry }, "not-valid", { checkpoint: "failed" }, undefined, { name });
    }
    return 2 * many.length;
  });
  add("evidence", async () => {
    const note = await ledger.cosigned(size), cose = await ledger.cose(index, size, { algorithm: -48 });
    await says({ receipt: text(ledger.evidence(index, published, { size, note })), registry }, VALID, { "checkpoint-ml-dsa": state, "registry-checkpoint": "checked" }, known ? undefined : /1 signature not checked/);
    const more = ledger.evidence(index, published, { size, note, registryNote: await ledger.cosigned(size) });
    await says({ receipt: text(more), registry }, VALID, { "checkpoint-ml-dsa": state, "registry-checkpoint-ml-dsa": state });
    return 2 + await says({ receipt: text(ledger.evidence(index, published, { size, note, cose })), registry }, VALID, { cose: state }, /ML-DSA/);
  });
  if (known) add("a false COSE receipt", async () => {
    const cose = await ledger.cose(index, size, { algorithm: -48, root: Buffer.alloc(32) });
    return says({ receipt: text(ledger.evidence(index, published, { size, note: await ledger.cosigned(size), cose })), registry }, "not-valid", { cose: "failed" });
  });
  add("the line is due from the entry that activates the key, until its end", async () => {
    const due = new Ledger("log.example/due"), mine = due.append({ eventType: "note", actor: "bob", stream: "bobs", payload: {} }), second = due.activateMlDsaKey(mlDsa["ml-dsa-44"]), from = second.record.activatedIndex;
    const first = due.publish(), count = due.leaves.length, of = (note_, size_) => text(due.evidence(mine, first, { size: size_, note: note_, registryNote: hybridNote, registrySize: count })), hybridNote = await due.cosigned(count);
    const changed = (change) => text({ ...JSON.parse(first.file), signers: JSON.parse(first.file).signers.map((signer) => (signer.signer_kid === second.name ? { ...signer, ...change } : signer)) });
    const given = (note_, size_, registry_ = first.file) => ({ receipt: of(note_, size_), registry: registry_ });
    await says(given(hybridNote, count), VALID, { "checkpoint": "checked", "checkpoint-ml-dsa": state }, known ? /by ledger-pq-v1\. It stands when Ed25519 falls/ : undefined);
    await says(given(due.checkpoint({ size: from }), from), VALID, { "checkpoint": "checked", "checkpoint-ml-dsa": "none" }, /none was due/);
    await says(given(due.checkpoint({ size: from + 1 }), from + 1), "not-valid", { checkpoint: "failed" }, /lacks the ledger’s ML-DSA-44 signature/);
    for (const end of ["retiredIndex", "compromisedSince"]) {
      const until = (index_) => changed({ state: end === "retiredIndex" ? "retired" : "compromised", [end]: index_ });
      await says(given(due.checkpoint({ size: from + 1 }), from + 1, until(from + 1)), "not-valid", { checkpoint: "failed" });
      await says(given(due.checkpoint({ size: from + 1 }), from + 1, until(from)), VALID, { checkpoint: "checked" });
    }
    await says(given(due.checkpoint({ size: from + 1 }), from + 1, changed({ state: "compromised" })), "not-valid", { checkpoint: "failed" });
    const staged = changed({ state: "staged", activatedIndex: undefined });
    await says(given(due.checkpoint({ size: count }), count, staged), VALID, { checkpoint: "checked" });
    await told(textOf(due.receipt(mine)), "not-valid", { checkpoint: "failed" }, undefined, { registry: first.file });
    return 9 + await told(textOf({ ...due.receipt(mine), checkpoint: hybridNote }), VALID, { "checkpoint-ml-dsa": state }, undefined, { registry: first.file });
  });
  add("the ledger’s ML-DSA-44 key signs no registry", async () => {
    const note = ledger.registryNote(registry), body = note.split("\n\n")[0] + "\n", line = await key.line(ledger.body());
    await told(receiptBy(ledger.checkpoint()), "valid", { note: "checked" }, undefined, { note: note + line });
    return 1 + await told(receiptBy(ledger.checkpoint()), "not-valid", { note: "failed" }, undefined, { note: `${body}\n${line}` });
  });
  const file = JSON.parse(registry), registryWith = (change) => text({ ...file, ledger: { ...file.ledger, ...change } }), [ed, ml] = file.ledger.vkeys;
  add("registries", async () => {
    const receipt = receiptBy(ledger.checkpoint()), told_ = async (name, change, verdict) => {
      const said = await tab.give({ receipt, registry: registryWith(change) });
      assert.equal(said.verdict, verdict, `${name}: ${said.reason}`);
    };
    const witness = new Cosigner("witness.example/one"), policy = policyOf([ed, ml], [witness]);
    const all = [["keys turned round", { vkeys: [ml, ed] }, "valid"], ["no Ed25519", { vkeys: [ml] }, "cannot-decide"], ["a cosigner’s key", { vkeys: [ed, new Cosigner(ledger.origin).vkey] }, "cannot-decide"],
      ["an ML-DSA-44 key of another name", { vkeys: [ed, vkeyOf("log.example/other", key.raw, 6)] }, "cannot-decide"], ["a short one", { vkeys: [ed, vkeyOf(ledger.origin, key.raw.subarray(1), 6)] }, "cannot-decide"],
      ["an unknown type", { vkeys: [ed, vkeyOf(ledger.origin, key.raw, 7)] }, "cannot-decide"], ["another id", { vkeys: [ed, ml.replace(/\+[0-9a-f]{8}\+/, "+00000000+")] }, "cannot-decide"],
      ["a policy", { policy }, "valid"], ["a policy of other keys", { policy: policyOf([ed], [witness]) }, "cannot-decide"], ["a policy that is none", { policy: "quorum x\n" }, "cannot-decide"], ["a policy that is no text", { policy: 1 }, "cannot-decide"], ["null for none", { policy: null }, "cannot-decide"], ["a member more", { zz: "" }, "cannot-decide"]];
    for (const [name, change, verdict] of all) await told_(name, change, verdict);
    return all.length;
  });
  return cases;
}
