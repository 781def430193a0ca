// Verifies an export as the platform's own tool does, row by row, for the benchmark: canonical form, SHA-256,
// comparison, link, crypto.verify.
// verify.mjs DIALECT ROWS.ndjson SIGNERS.json LIMIT pem|key: stops after LIMIT rows; reads each row's key from its PEM
// anew, or once. Prints rows, seconds, and seconds of CPU as JSON.
import { createHash, createPublicKey, verify } from "node:crypto";
import { createReadStream, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { concatenated, rebuilt } from "./canonical.mjs";

const [dialect, rowsFile, signersFile, limit, keys] = process.argv.slice(2);
const pems = new Map(JSON.parse(readFileSync(signersFile, "utf8")).signers.map((it) => [it.signer_kid, it.public_key_pem]));
const cache = new Map();
const keyOf = (kid) => {
  const pem = pems.get(kid);
  if (!pem) throw new Error(`unknown signer ${kid}`);
  if (keys === "pem") return createPublicKey(pem);
  if (!cache.has(kid)) cache.set(kid, createPublicKey(pem));
  return cache.get(kid);
};

// What each writer hashes.
const preimages = {
  shared: (row) => JSON.stringify(rebuilt({
    actor_id: row.actor_id, created_at: new Date(row.created_at).toISOString(), event_type: row.event_type,
    payload: row.payload, prev_hash: row.prev_hash ?? null,
  })),
  "memory-layer": (row) =>
    Buffer.concat([Buffer.from(concatenated(row.payload)), Buffer.from(row.prev_hash ?? "", "hex")]),
};

const heads = new Map();
let rows = 0;
const started = process.hrtime.bigint();
for await (const line of createInterface({ input: createReadStream(rowsFile, { highWaterMark: 1 << 20 }) })) {
  const row = JSON.parse(line);
  const chain = dialect === "shared" ? row.actor_id : "";
  if ((heads.get(chain) ?? null) !== (row.prev_hash ?? null)) throw new Error(`prevHash mismatch at ${rows}`);
  const digest = createHash("sha256").update(preimages[dialect](row)).digest();
  const hash = digest.toString("hex");
  if (hash !== row.hash) throw new Error(`Hash mismatch at ${rows}`);
  const kid = row.signer_kid ?? [...pems.keys()][0];
  if (!verify(null, digest, keyOf(kid), Buffer.from(row.signature, "base64"))) {
    throw new Error(`Signature verification failed at ${rows}`);
  }
  heads.set(chain, hash);
  rows += 1;
  if (rows === Number(limit)) break;
}
const seconds = Number(process.hrtime.bigint() - started) / 1e9;
const { user, system } = process.cpuUsage();
process.stdout.write(`${JSON.stringify({ rows, seconds, cpu: (user + system) / 1e6 })}\n`);
