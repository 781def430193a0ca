// Drives the verifying page in a real Chromium and prints one line of JSON for each case. Exits 1 if any failed.
//
//   node page.mjs --page FILE_OR_URL [--evidence DIR] [--format FILE] [--screenshots DIR] [--only WORDS]
//                 [--verifier PROGRAM] [--client-cert FILE --client-key FILE]
//
// PROGRAM of --verifier is chancery-verify: it must say of every evidence file what the page says.
// DIR of --evidence holds what a daemon gave out: receipt*.json, sidecars, *.evidence, signers.json, perhaps signers.json.sig
// and witnesses.policy. FILE of --format is FORMAT.md, whose example of an evidence file the page must take.
// $CHROMIUM names another browser than /usr/bin/chromium.

import { strict as assert } from "node:assert";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { Auditor } from "./auditor.mjs";
import { launch, Tab } from "./browser.mjs";
import { bundleCases, makeBundles } from "./bundles.mjs";
import { evidenceCases, makeWorld } from "./evidence.mjs";
import { sha as digestOf } from "./ledger.mjs";
import { humanCases } from "./human.mjs";

const string = { type: "string" };
const { values: given } = parseArgs({ options: { page: string, evidence: string, screenshots: string, only: string, verifier: string, format: string, "client-cert": string, "client-key": string } });
if (given.page === undefined) {
  console.error("usage: node page.mjs --page FILE_OR_URL [--evidence DIR] [--format FILE] [--screenshots DIR] [--only WORDS] [--verifier PROGRAM]");
  process.exit(2);
}
const url = /^https?:/.test(given.page) ? given.page : pathToFileURL(resolve(given.page)).href;
const clientCertificates = given["client-cert"] && [{ origin: new URL(url).origin, certPath: given["client-cert"], keyPath: given["client-key"] }];
const options = { clientCertificates };
// A daemon serves the very file, which is read from disk too: what takes longest is done there.
const isServed = url.startsWith("http");
if (given.screenshots) mkdirSync(given.screenshots, { recursive: true });

const browser = await launch(), auditor = new Auditor(given.verifier);
let failures = 0, cases = 0, pieces = 0;
async function run(name, act) {
  if (given.only && !name.includes(given.only)) return;
  const from = Date.now();
  cases += 1;
  try {
    const count = await act();
    pieces += count;
    console.log(JSON.stringify({ case: name, ok: true, evidence: count, ms: Date.now() - from }));
  } catch (error) {
    failures += 1;
    console.log(JSON.stringify({ case: name, ok: false, error: String(error.message).slice(0, 4000), ms: Date.now() - from }));
  }
}

try {
  const tab = await Tab.open(browser, url, options);
  const mlDsa = await mlDsaKeys(tab), known = Object.values(mlDsa).every(({ known: is }) => is);
  const world = await makeWorld(mlDsa), bundles = await makeBundles(mlDsa);
  for (const [name, act] of evidenceCases(tab, world, known)) await run(name, act);
  for (const [name, act] of await bundleCases(tab, bundles, mlDsa, known, auditor)) if (!(isServed && name.includes("altered"))) await run(name, act);
  if (given.format) await run("the example in FORMAT.md", () => exampleOf(tab, readFileSync(given.format, "utf8")));
  if (given.evidence) for (const [name, act] of daemonCases(tab, given.evidence, known)) await run(name, act);
  await run("after all this, no request left the page and nothing was complained of", async () => {
    assert.deepEqual(tab.requests, [url]);
    assert.deepEqual(tab.complaints, []);
    assert.deepEqual(await tab.page.evaluate(async () => [document.cookie, (await globalThis.caches?.keys().catch(() => [])) ?? [], performance.getEntriesByType("resource").length]), ["", [], 0]);
    return 1;
  });
  // This tab stays: keys for ML-DSA are in it.
  for (const [name, act] of humanCases(browser, url, { ...world, bundles, mlDsa }, given.screenshots, options)) await run(name, act);
} finally {
  await browser.close();
  auditor.close();
}
console.log(JSON.stringify({ cases, failures, evidence: pieces }));
process.exitCode = failures === 0 && cases > 0 ? 0 : 1;

/** What the real daemon gave out is valid, as far as it can be checked. */
function daemonCases(tab, folder, known) {
  const read = (name) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name)) : undefined);
  const receipts = readdirSync(folder).filter((name) => /^receipt.*\.json$|\.chancery\.json$/.test(name)).sort();
  const bundles = readdirSync(folder).filter((name) => name.endsWith(".evidence")).sort();
  if (receipts.length + bundles.length === 0 || read("signers.json") === undefined) throw new Error(`${folder} has no receipt*.json or *.evidence, or no signers.json`);
  /** Of a ledger that signs with ML-DSA-44 too, that line was looked at. */
  const asksForMlDsa = ({ checks, why }) => {
    if (JSON.parse(read("signers.json")).ledger.vkeys.length > 1) assert.equal(checks["checkpoint-ml-dsa"], known ? "checked" : "open", why["checkpoint-ml-dsa"]);
  };
  const ofBundle = (name) => [`from the daemon: ${name}`, async () => {
    const registry = read("signers.json"), policy = read("witnesses.policy"), receipt = read(name), taken = ["valid", "valid-in-part"];
    const told = await tab.give({ receipt, registry, policy, note: read("signers.json.sig") });
    assert.ok(taken.includes(told.verdict), `${told.verdict}: ${told.reason}`);
    asksForMlDsa(told);
    if (JSON.parse(receipt).cose) assert.equal(told.checks.cose, "checked");
    if (JSON.parse(receipt).renewals.length > 0) assert.equal(told.checks["renewal-1-continues"], "checked");
    if (policy) {
      assert.equal(told.checks.witnesses, "checked", told.why.witnesses);
      const alone = await tab.give({ receipt, policy });
      assert.ok(taken.includes(alone.verdict) && alone.checks.anchor === "checked", `${alone.verdict}: ${alone.reason}`);
    }
    assert.equal((await tab.give({ receipt })).verdict, "cannot-decide");
    const altered = receipt.toString().replace(/("ts": ?"2)0/, "$11");
    assert.equal((await tab.give({ receipt: altered, registry })).verdict, "not-valid");
    return 4;
  }];
  return [...bundles.map(ofBundle), ...receipts.map((name) => [`from the daemon: ${name}`, async () => {
    const told = await tab.give({ receipt: read(name), registry: read("signers.json"), note: read("signers.json.sig") });
    assert.ok(["valid", "valid-in-part"].includes(told.verdict), `${told.verdict}: ${told.reason}`);
    asksForMlDsa(told);
    const altered = read(name).toString().replace(/("ts": ?"2)0/, "$11");
    assert.equal((await tab.give({ receipt: altered, registry: read("signers.json") })).verdict, "not-valid");
    return 2;
  }])];
}

/** The vector of §9.3: its policy, and the file that it vouches for. */
async function exampleOf(tab, page) {
  const [, policy, receipt] = /```vector evidence\n((?:[^{].*\n)+)(\{.*\})\n```/.exec(page);
  const told = await tab.give({ receipt, policy });
  assert.deepEqual([told.verdict, told.checks.anchor, told.checks["renewal-1-continues"]], ["valid", "checked", "checked"], told.reason);
  const registry = JSON.parse(receipt).registry.file;
  assert.equal((await tab.give({ receipt, registry })).verdict, "valid");
  return 2;
}

/** ML-DSA keys live in the browser, which Node 20 is behind; where it has none, shapes of keys and signatures. */
async function mlDsaKeys(tab) {
  const made = {};
  for (const [algorithm, head, key, signature] of [["ml-dsa-44", "30820532300b06096086480165030403110382052100", 1312, 2420], ["ml-dsa-65", "308207b2300b0609608648016503040312038207a100", 1952, 3309]]) {
    const der = await tab.page.evaluate(async (name) => {
      try {
        const pair = await crypto.subtle.generateKey({ name }, true, ["sign", "verify"]);
        (globalThis.testKeys ??= {})[name] = pair.privateKey;
        return [...new Uint8Array(await crypto.subtle.exportKey("spki", pair.publicKey))];
      } catch {
        return undefined;
      }
    }, algorithm.toUpperCase());
    const sign = (message, hash) => tab.page.evaluate(async ([name, bytes]) =>
      [...new Uint8Array(await crypto.subtle.sign({ name }, globalThis.testKeys[name], Uint8Array.from(bytes)))], [algorithm.toUpperCase(), [...digestOf(hash, message)]]);
    const signMessage = (message) => tab.page.evaluate(async ([name, bytes]) =>
      [...new Uint8Array(await crypto.subtle.sign({ name }, globalThis.testKeys[name], Uint8Array.from(bytes)))], [algorithm.toUpperCase(), [...message]]);
    const spki = der ? Buffer.from(der) : Buffer.concat([Buffer.from(head, "hex"), Buffer.alloc(key, 7)]);
    const lines = spki.toString("base64").match(/.{1,64}/g).join("\n");
    made[algorithm] = { known: der !== undefined, hash: "sha256", publicPem: `-----BEGIN PUBLIC KEY-----\n${lines}\n-----END PUBLIC KEY-----\n`, raw: spki.subarray(-key), sign: der ? sign : () => Buffer.alloc(signature, 7), signMessage: der ? signMessage : () => Buffer.alloc(signature, 7) };
  }
  return made;
}
