// The page in a real browser, and a hand that gives it evidence. Every request the page makes is recorded, and anything
// but the page itself is stopped.

import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const SETTLE_MS = 60_000;
const SLOTS = ["receipt", "registry", "note", "policy", "file"];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });

/** One tab with the page. */
export class Tab {
  /** `before` runs in the page ahead of its script: it can take away what a browser may lack. */
  static async open(browser, url, { before, clientCertificates, ...options } = {}) {
    const context = await browser.newContext({
      viewport: { width: 1280, height: 900 }, colorScheme: "light", ignoreHTTPSErrors: true, serviceWorkers: "block", clientCertificates, ...options,
    });
    const tab = new Tab();
    Object.assign(tab, { context, url, requests: [], stopped: [], complaints: [], held: new Map() });
    context.on("request", (request) => tab.requests.push(request.url()));
    context.on("requestfailed", (request) => tab.stopped.push(`${request.url()} ${request.failure()?.errorText}`));
    tab.page = await context.newPage();
    tab.page.on("console", (message) => tab.complaints.push(`${message.type()}: ${message.text()}`));
    tab.page.on("pageerror", (error) => tab.complaints.push(`error: ${error.message}`));
    await context.route((address) => address.href.split("#")[0] !== url, (route) => route.abort());
    if (before) await tab.page.addInitScript(before);
    tab.response = await tab.page.goto(url);
    return tab;
  }

  async runs() {
    return Number(await this.page.locator("#verdict").getAttribute("data-run") ?? 0);
  }

  /** Does something that makes the page examine again, and waits until it has. */
  async through(act) {
    const before = await this.runs();
    await act();
    await this.page.waitForFunction((count) => Number(document.querySelector("#verdict").dataset.run ?? 0) > count, before, { timeout: SETTLE_MS, polling: 5 });
  }

  /** Gives exactly this evidence, each a text, bytes or nothing, and returns what the page then says. */
  async give(evidence) {
    for (const slot of SLOTS) {
      const wanted = evidence[slot], held = this.held.get(slot);
      if (wanted === undefined && held !== undefined) await this.through(() => this.page.locator(`[data-remove=${slot}]`).click());
      if (wanted !== undefined && !(held !== undefined && Buffer.from(wanted).equals(Buffer.from(held)))) {
        const name = { receipt: "receipt.json", registry: "signers.json", note: "signers.json.sig", policy: "witnesses.policy", file: "order.pdf" }[slot];
        await this.through(() => this.page.locator(`#${slot}-file`).setInputFiles({ name, mimeType: "application/octet-stream", buffer: Buffer.from(wanted) }));
      }
      this.held.set(slot, wanted);
    }
    return this.told();
  }

  /** Gives one slot many texts or bytes, one after the other, and returns what the page says to each. */
  async giveMany(slot, many) {
    const told = [];
    // In parts, for the sake of the browser's memory.
    for (let from = 0; from < many.length; from += 100) {
      const part = many.slice(from, from + 100).map((one) => Buffer.from(one).toString("base64"));
      told.push(...await this.page.evaluate(async ([id, files]) => {
        const input = document.getElementById(`${id}-file`), verdict = document.getElementById("verdict"), said = [];
        for (const file of files) {
          const transfer = new DataTransfer(), before = Number(verdict.dataset.run ?? 0);
          transfer.items.add(new File([Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0))], id));
          const settled = new Promise((resolve) => {
            const watch = new MutationObserver(() => { if (Number(verdict.dataset.run ?? 0) > before) { watch.disconnect(); resolve(); } });
            watch.observe(verdict, { attributes: true });
          });
          input.files = transfer.files;
          input.dispatchEvent(new Event("change"));
          await settled;
          said.push({
            verdict: verdict.dataset.verdict, reason: document.getElementById("verdict-reason").textContent,
            failed: [...document.querySelectorAll("#checks:not([hidden]) [data-state=failed]")].map((row) => row.dataset.check),
          });
        }
        return said;
      }, [slot, part]));
    }
    this.held.set(slot, many.at(-1));
    return told;
  }

  told() {
    return this.page.evaluate(() => {
      const text = (node) => node?.textContent ?? "";
      const rows = [...document.querySelectorAll("#checks:not([hidden]) [data-check]")];
      return {
        verdict: document.querySelector("#verdict").dataset.verdict, title: text(document.querySelector("#verdict-title")),
        reason: text(document.querySelector("#verdict-reason")), notice: text(document.querySelector("#notice")),
        checks: Object.fromEntries(rows.map((row) => [row.dataset.check, row.dataset.state])),
        why: Object.fromEntries(rows.map((row) => [row.dataset.check, text(row.querySelector(".why"))])),
        limits: text(document.querySelector("#limits:not([hidden])")),
      };
    });
  }

  /** What axe finds wrong. */
  async inaccessible() {
    const source = readFileSync(new URL(import.meta.resolve("axe-core/axe.min.js")), "utf8");
    await this.page.evaluate(source);
    const { violations } = await this.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
  }

  close() {
    return this.context.close();
  }
}
