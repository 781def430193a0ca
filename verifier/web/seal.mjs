// Writes into the page's policy the hashes of its own style and script, so that nothing else may run in it.
//
//   node seal.mjs           writes them
//   node seal.mjs --check   exits 1 if they are not those of the page as it is

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const PAGE = fileURLToPath(new URL("index.html", import.meta.url));

/** The policy of a page with these inline parts, and only these. */
export function policyOf(page) {
  const hash = (tag) => {
    const parts = [...page.matchAll(new RegExp(`<${tag}>([^]*?)</${tag}>`, "g"))];
    if (parts.length !== 1) throw new Error(`the page must have one <${tag}> without attributes, it has ${parts.length}`);
    return `'sha256-${createHash("sha256").update(parts[0][1]).digest("base64")}'`;
  };
  return `default-src 'none'; script-src ${hash("script")}; style-src ${hash("style")}; base-uri 'none'; form-action 'none'`;
}

export function sealed(page) {
  const policy = /(<meta http-equiv="Content-Security-Policy" content=")[^"]*(">)/;
  if (!policy.test(page)) throw new Error("the page has no policy");
  return page.replace(policy, (_, before, after) => before + policyOf(page) + after);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const page = readFileSync(PAGE, "utf8");
  if (process.argv[2] !== "--check") writeFileSync(PAGE, sealed(page));
  else if (sealed(page) !== page) {
    console.error("index.html: its policy does not name its own script and style; run node seal.mjs");
    process.exit(1);
  }
}
