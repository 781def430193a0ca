// What people meet: the page without a mouse, by a screen reader's rules, on a telephone, dropped on, pasted into; in a
// browser that lacks something; and that nothing ever leaves it.

import { strict as assert } from "node:assert";
import { readFileSync } from "node:fs";
import { sealed } from "../seal.mjs";
import { Tab } from "./browser.mjs";
import { Ledger, textOf } from "./ledger.mjs";

const PHONE = { width: 360, height: 740 };
const SCHEMES = ["light", "dark"];

/** `[name, act]`; pictures go to the folder `shots`, if there is one. */
export function humanCases(browser, url, world, shots, options) {
  const { registry, receiptOf, ledger } = world, good = { receipt: receiptOf("cosigned"), registry };
  const cases = [], add = (name, act) => cases.push([name, act]);
  const open = (more = {}) => Tab.open(browser, url, { ...options, ...more });
  const within = async (more, act) => {
    const tab = await open(more);
    try {
      return await act(tab) ?? 1;
    } finally {
      await tab.close();
    }
  };
  const { bundles } = world, bundled = bundles.full(bundles.at.issued).then(JSON.stringify);
  const evidence = { receipt: bundled, registry: bundles.registry, policy: bundles.quantumPolicy };
  const scenes = {
    "evidence": evidence, "evidence-alone": { receipt: bundled },
    "evidence-not-valid": { ...evidence, receipt: bundled.then((told) => told.replace("A-17", "A-71").replace(/("consistencyProof":\[")(.)/, (_, before, letter) => before + (letter === "0" ? "1" : "0"))) },
    empty: {}, good: { ...good, note: ledger.registryNote(registry), file: "pay 100 to bob" },
    "not-valid": { ...good, receipt: good.receipt.replace("A-17", "A-71") },
    "in-part": { receipt: receiptOf("message"), registry }, "no-registry": { receipt: good.receipt }, event: { receipt: receiptOf("chain kernel"), registry },
  };

  for (const scheme of SCHEMES) {
    for (const [size, viewport] of [["wide", { width: 1280, height: 900 }], ["phone", PHONE]]) {
      add(`accessible, ${scheme}, ${size}`, () => within({ colorScheme: scheme, viewport }, async (tab) => {
        for (const [name, given] of Object.entries(scenes)) {
          await tab.give({ ...given, receipt: await given.receipt });
          await tab.page.evaluate(() => scrollTo(0, 0));
          if (shots) await tab.page.screenshot({ path: `${shots}/${name}-${scheme}-${size}.png`, fullPage: true });
          assert.deepEqual(await tab.inaccessible(), [], name);
          for (const summary of await tab.page.locator("details:not([open]) > summary").all()) if (await summary.isVisible()) await summary.click();
          assert.deepEqual(await tab.inaccessible(), [], `${name}, unfolded`);
          const width = await tab.page.evaluate(() => document.documentElement.scrollWidth);
          assert.ok(width <= viewport.width, `${name}: ${width} wide`);
          for (const summary of await tab.page.locator("details[open] > summary").all()) if (await summary.isVisible()) await summary.click();
        }
        return Object.keys(scenes).length;
      }));
    }
  }
  add("a long way scrolls in its own frame", () => within({ viewport: PHONE }, async (tab) => {
    const deep = new Ledger("log.example/deep");
    while (deep.leaves.length < 700) deep.append({ eventType: "note", actor: "bob", stream: "bobs", payload: { n: deep.leaves.length } });
    const told = await tab.give({ receipt: textOf(deep.receipt(341)), registry: JSON.stringify(deep.registry()) });
    assert.equal(told.verdict, "valid", told.reason);
    if (shots) await tab.page.screenshot({ path: `${shots}/deep-light-phone.png`, fullPage: true });
    const { inner, outer, page } = await tab.page.evaluate(() => {
      const view = document.querySelector("#path-view");
      return { inner: view.scrollHeight, outer: view.clientHeight, page: document.documentElement.scrollWidth };
    });
    assert.ok(inner > outer && page <= PHONE.width, `${inner} in ${outer}, page ${page}`);
    assert.equal(await tab.page.locator("#path-table tbody tr").count(), 10);
  }));
  add("printed", () => within({}, async (tab) => {
    await tab.give(good);
    await tab.page.emulateMedia({ media: "print" });
    if (shots) await tab.page.screenshot({ path: `${shots}/good-print.png`, fullPage: true });
    assert.equal(await tab.page.locator("#drop").isVisible(), false);
    assert.equal(await tab.page.locator("#verdict").isVisible(), true);
  }));

  add("by keyboard alone", () => within({}, (tab) => walk(tab, good)));
  add("the verdict is announced, and says more than a colour", () => within({}, async (tab) => {
    await tab.give(good);
    const status = tab.page.getByRole("status");
    assert.equal(await status.getAttribute("aria-live"), "polite");
    assert.match(await status.innerText(), /^VALID\s+Entry \d+ of log\.example/);
    await tab.give(scenes["not-valid"]);
    assert.match(await status.innerText(), /^NOT VALID\s/);
    const tree = await tab.page.locator("body").ariaSnapshot();
    for (const part of [/- banner/, /- main/, /- contentinfo/, /heading "What was checked"/, /✗ Failed/]) assert.match(tree, part);
    return 2;
  }));

  add("evidence, dropped with what it is judged by", () => within({}, async (tab) => {
    await tab.through(async () => drop(tab, [["a", await bundled], ["b", bundles.registry], ["c", bundles.policy]]));
    const { verdict, checks } = await tab.told();
    assert.deepEqual([checks.receipt, checks.registry, checks.policy, checks.witnesses], ["checked", "checked", "checked", "checked"], verdict);
    assert.match(await tab.page.locator("#parts").innerText(), /Renewal 2[^]*s3:\/\/audit\/prod/);
    assert.equal(await tab.page.locator("#path svg").count(), 1);
  }));
  add("dropped together", () => within({}, async (tab) => {
    await tab.through(() => drop(tab, [["a.bin", good.receipt], ["b.bin", registry], ["c.bin", ledger.registryNote(registry)], ["order.pdf", "pay 100 to bob"]]));
    const { verdict, checks } = await tab.told();
    assert.deepEqual([verdict, checks.note, checks.file], ["valid", "checked", "checked"]);
  }));
  add("chosen together", () => within({}, async (tab) => {
    const files = [["x", registry], ["y", good.receipt]].map(([name, body]) => ({ name, mimeType: "text/plain", buffer: Buffer.from(body) }));
    await tab.through(() => tab.page.locator("#any-file").setInputFiles(files));
    assert.equal((await tab.told()).verdict, "valid");
  }));
  add("pasted", () => within({}, async (tab) => {
    await tab.page.locator("#paste > summary").click();
    for (const body of [registry, good.receipt]) {
      await tab.page.locator("#paste-text").fill(body);
      await tab.through(() => tab.page.locator("#paste-read").click());
    }
    assert.equal((await tab.told()).verdict, "valid");
  }));
  add("damaged evidence is refused as what it was meant to be", () => within({}, async (tab) => {
    await tab.through(() => drop(tab, [["receipt.json", good.receipt.slice(0, -2)], ["signers.json", registry]]));
    const cutOff = await tab.told();
    assert.deepEqual([cutOff.verdict, cutOff.checks.receipt], ["not-valid", "failed"]);
    await tab.through(() => drop(tab, [["receipt.json", good.receipt], ["signers.json", registry.slice(0, -2)]]));
    const without = await tab.told();
    assert.deepEqual([without.verdict, without.checks.registry], ["cannot-decide", "failed"]);
    await tab.through(() => drop(tab, [["big.json", " ".repeat(16 * 1024 * 1024 + 1)]]));
    const big = await tab.told();
    assert.equal(big.verdict, "cannot-decide");
    assert.match(big.notice, /larger than 16 MiB/);
    return 3;
  }));
  add("text that hides or turns is shown for what it is", () => within({}, async (tab) => {
    const odd = new Ledger("log.example/odd"), index = odd.append({ eventType: "note", actor: "bob", stream: "bobs", payload: { "<img src=x onerror=alert(1)>": "\u202egnp.exe\u200b<script>alert(1)</script>" } });
    const told = await tab.give({ receipt: textOf(odd.receipt(index)), registry: JSON.stringify(odd.registry()) });
    assert.equal(told.verdict, "valid");
    const shown = await tab.page.locator("#entry").innerText();
    assert.match(shown, /\\u\{202e\}gnp\.exe\\u\{200b\}<script>/);
    assert.equal(await tab.page.locator("#entry img, #entry script").count(), 0);
  }));

  add("a browser without Ed25519 counts by itself", () => within({
    before: () => { const own = SubtleCrypto.prototype.importKey; SubtleCrypto.prototype.importKey = function importKey(format, key, algorithm, ...rest) { return algorithm.name === "Ed25519" ? Promise.reject(new Error("not here")) : own.call(this, format, key, algorithm, ...rest); }; },
  }, async (tab) => {
    assert.equal((await tab.give(good)).verdict, "valid");
    assert.equal((await tab.give({ ...good, receipt: good.receipt.replace(/(— log\S+ \S{20})./, "$1!") })).verdict, "not-valid");
    const receipt = JSON.parse(good.receipt), [text, line] = receipt.checkpoint.split("\n\n");
    receipt.checkpoint = `${text}\n\n${line.slice(0, -10)}${line.at(-10) === "A" ? "B" : "A"}${line.slice(-9)}`;
    assert.equal((await tab.give({ ...good, receipt: JSON.stringify(receipt) })).verdict, "not-valid");
    return 3;
  }));
  add("a browser without ML-DSA says so", () => within({
    before: () => { const own = SubtleCrypto.prototype.importKey; SubtleCrypto.prototype.importKey = function importKey(format, key, algorithm, ...rest) { return algorithm.name.startsWith("ML-DSA") ? Promise.reject(new Error("not here")) : own.call(this, format, key, algorithm, ...rest); }; },
  }, async (tab) => {
    const told = await tab.give({ receipt: receiptOf("ml-dsa-44"), registry });
    assert.equal(told.verdict, "valid-in-part");
    assert.match(told.title, /as far as this browser can tell: 1 signature not checked/);
    assert.match(told.why.signature, /does not know ML-DSA-44/);
    const bundle = { receipt: await bundled, registry: bundles.registry }, opened = await tab.give(bundle);
    assert.deepEqual([opened.verdict, opened.checks["renewal-1-cosigned"], opened.checks["renewal-2-cosigned"]], ["valid-in-part", "checked", "open"]);
    assert.match(`${opened.title} ${opened.why["renewal-2-cosigned"]}`, /1 signature not checked[^]*no ML-DSA, so 1 line was not checked: witness\.example\/quantum/);
    const asked = await tab.give({ ...bundle, policy: bundles.quantumPolicy });
    assert.deepEqual([asked.verdict, asked.checks.witnesses], ["cannot-decide", "open"]);
    assert.match(asked.reason, /hangs on ML-DSA signatures/);
    assert.equal((await tab.give({ ...bundle, policy: bundles.laterPolicy })).checks.witnesses, "checked");
    const hybrid = await hybridOf(world), one = await tab.give(hybrid);
    assert.deepEqual([one.verdict, one.checks.checkpoint, one.checks["checkpoint-ml-dsa"]], ["valid-in-part", "checked", "open"]);
    assert.match(one.why["checkpoint-ml-dsa"], /^This browser has no ML-DSA/);
    if (shots) await tab.page.screenshot({ path: `${shots}/without-ml-dsa-light-wide.png`, fullPage: true });
    return 5;
  }));
  add("a browser that takes ML-DSA keys in one form only", () => within({
    before: () => { const own = SubtleCrypto.prototype.importKey; SubtleCrypto.prototype.importKey = function importKey(format, key, algorithm, ...rest) { return algorithm.name.startsWith("ML-DSA") && format === "spki" ? Promise.reject(new Error("not here")) : own.call(this, format, key, algorithm, ...rest); }; },
  }, async (tab) => {
    const known = await tab.page.evaluate(() => crypto.subtle.generateKey({ name: "ML-DSA-44" }, true, ["sign", "verify"]).then(() => true, () => false));
    assert.equal((await tab.give(await hybridOf(world))).checks["checkpoint-ml-dsa"], known ? "checked" : "open");
  }));
  add("a page without cryptography decides nothing", () => within({
    before: () => Object.defineProperty(Crypto.prototype, "subtle", { value: undefined }),
  }, async (tab) => {
    const told = await tab.give(good);
    assert.equal(told.verdict, "cannot-decide");
    assert.match(told.reason, /no cryptography/);
  }));
  add("without scripts it says what it needs", () => within({ javaScriptEnabled: false }, async (tab) => {
    assert.match(await tab.page.locator("noscript").innerText(), /needs its script/);
  }));

  add("the policy is that of this page, and stops everything else", () => within({}, async (tab) => {
    const page = readFileSync(new URL("../index.html", import.meta.url), "utf8");
    assert.equal(sealed(page), page, "the hashes are stale; run node seal.mjs");
    const policy = await tab.page.locator("meta[http-equiv=Content-Security-Policy]").getAttribute("content");
    assert.match(policy, /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; base-uri 'none'; form-action 'none'$/);
    assert.ok(page.includes(policy), "the page driven is another one");
    if (url.startsWith("http")) assert.match(tab.response.headers()["content-security-policy"] ?? "", /default-src 'none'/);
    const seen = await tab.page.evaluate(async () => {
      const blocked = [];
      document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => blocked.push(effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "globalThis.ran = true";
      document.body.append(script);
      document.body.append(Object.assign(new Image(), { src: "https://elsewhere.example/x.png" }));
      const asked = await fetch("https://elsewhere.example/").then(() => "answered", () => "refused");
      await new Promise((resolve) => setTimeout(resolve, 100));
      return { blocked: [...new Set(blocked)].sort(), asked, ran: globalThis.ran === true };
    });
    assert.deepEqual(seen, { blocked: ["connect-src", "img-src", "script-src-elem"], asked: "refused", ran: false });
    // The picture was asked for by this test, and stopped by the policy before it left.
    assert.deepEqual([tab.requests, tab.stopped], [[url, "https://elsewhere.example/x.png"], ["https://elsewhere.example/x.png csp"]]);
    assert.equal(page.match(/\s(?:style|on[a-z]+)=|(?:src|href)="(?!#)/g), null, "no inline style, no handler, nothing from elsewhere");
  }));
  return cases;
}

/** A receipt under a checkpoint that the ledger signed with ML-DSA-44 too. */
async function hybridOf({ mlDsa }) {
  const ledger = new Ledger("log.example/hybrid"), index = ledger.append({ eventType: "note", actor: "bob", stream: "bobs", payload: {} });
  ledger.addMlDsaKey(mlDsa["ml-dsa-44"]);
  return { receipt: textOf({ ...ledger.receipt(index), checkpoint: await ledger.cosigned(ledger.leaves.length) }), registry: JSON.stringify(ledger.registry()) };
}

/** Files, as if they were let go over the page. */
function drop(tab, files) {
  return tab.page.evaluate((dropped) => {
    const dataTransfer = new DataTransfer();
    for (const [name, body] of dropped) dataTransfer.items.add(new File([body], name));
    document.querySelector("#drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
  }, files);
}

async function walk(tab, good) {
  const { page } = tab;
  // As long as somebody listens, choosers come here and open no window.
  page.on("filechooser", () => {});
  const here = () => page.evaluate(() => {
    const node = document.activeElement, seen = node.matches(".hidden-input") ? node.nextElementSibling : node;
    const { outlineStyle, outlineWidth } = getComputedStyle(seen);
    return { name: node.id || node.dataset.remove || node.textContent.trim(), outline: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2, tag: node.tagName };
  });
  const tabTo = async (name) => {
    for (let steps = 0; steps < 40; steps += 1) {
      await page.keyboard.press("Tab");
      const now = await here();
      if (now.tag !== "BODY") assert.ok(now.outline, `${now.name} shows no focus`);
      if (now.name === name) return;
    }
    assert.fail(`${name} is not reached by the keyboard`);
  };
  const choose = async (body) => {
    const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.keyboard.press("Enter")]);
    await tab.through(() => chooser.setFiles({ name: "some.json", mimeType: "application/json", buffer: Buffer.from(body) }));
  };
  await tabTo("Skip to the result");
  await page.keyboard.press("Enter");
  assert.equal((await here()).name, "results");
  await page.reload();
  await tabTo("any-file");
  await choose(good.receipt);
  await tabTo("registry-file");
  await choose(good.registry);
  assert.equal((await tab.told()).verdict, "valid");
  await tabTo("path-view");
  await page.keyboard.press("End");
  await tabTo("The same as a table");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#path-table").isVisible(), true);
  await page.evaluate(() => document.body.focus());
  await page.locator("#any-file").focus();
  await tabTo("registry");
  await tab.through(() => page.keyboard.press("Enter"));
  assert.deepEqual([(await tab.told()).verdict, (await here()).name], ["cannot-decide", "registry-file"]);
  await tabTo("Paste text instead");
  await page.keyboard.press("Enter");
  await tabTo("paste-text");
  await page.keyboard.insertText(good.registry);
  await tabTo("paste-read");
  await tab.through(() => page.keyboard.press("Enter"));
  assert.equal((await tab.told()).verdict, "valid");
  return 5;
}
