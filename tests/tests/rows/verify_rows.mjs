// verify_rows.mjs DIALECT ROWS.ndjson SIGNERS.json: what the platform's own verifiers check of a chain, written from the
// description of their writers: rows in the order of their time, each hash computed again from the row's columns, each
// previous hash the one before, each signature by the key the row names. Prints the head's hash.
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const [dialect, rowsFile, signersFile] = process.argv.slice(2);
const rows = readFileSync(rowsFile, "utf8").trim().split("\n").map((line) => JSON.parse(line));
const known = JSON.parse(readFileSync(signersFile, "utf8")).signers.filter(
  ({ algorithm }) => algorithm === "ed25519" || algorithm === "rsa-sha256",
);
const signers = new Map(known.map((it) => [it.signer_kid, it]));
const moment = (row) => Date.parse(row.ts ?? row.created_at);
rows.sort((one, other) => moment(one) - moment(other));

// Concatenation: names in the order of UTF-16 units.
const concatenated = (value) => {
  if (Array.isArray(value)) return `[${value.map(concatenated).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${concatenated(value[name])}`);
  return `{${members.join(",")}}`;
};
// A sorted object is built again, in which JavaScript puts whole numbers first.
const rebuilt = (value) => {
  if (Array.isArray(value)) return value.map(rebuilt);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((name) => [name, rebuilt(value[name])]));
};
// Go's encoding/json, as far as the rows here need it.
const go = (value) => {
  if (Array.isArray(value)) return `[${value.map(go).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const names = Object.keys(value).sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)));
    return `{${names.map((name) => `${go(name)}:${go(value[name])}`).join(",")}}`;
  }
  const escape = (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(value).replace(/[<>&\u2028\u2029]/g, escape);
};

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const before = (row) => (row.prev_hash === null ? Buffer.alloc(0) : Buffer.from(row.prev_hash, "hex"));
const iso = (text) => new Date(text).toISOString();
const hashOf = {
  "agent-manager": (row) => sha256(concatenated(row.payload), before(row)),
  "memory-layer": (row) => sha256(concatenated(row.payload), before(row)),
  "kernel-server": (row) => sha256(concatenated(row.payload), before(row)),
  "kernel-go": (row) => sha256(go(row.payload), before(row)),
  kernel: (row) =>
    sha256(
      JSON.stringify({
        eventType: row.event_type,
        payload: rebuilt(row.payload),
        prevHash: row.prev_hash,
        ts: iso(row.ts),
      }),
    ),
  shared: (row) =>
    sha256(
      JSON.stringify(
        rebuilt({
          actor_id: row.actor_id,
          created_at: iso(row.created_at),
          event_type: row.event_type,
          payload: row.payload,
          prev_hash: row.prev_hash,
        }),
      ),
    ),
}[dialect];

const need = (condition, what, row) => {
  if (!condition) {
    console.error(`${what}: ${row.id}`);
    process.exit(1);
  }
};
// One column of these tables names no signer: there every key is tried.
const candidates = (row) => {
  const name = row.signer_kid ?? row.signer_id;
  return name === undefined ? [...signers.values()] : [signers.get(name)];
};
let head = null;
for (const row of rows) {
  const hash = hashOf(row).toString("hex");
  need(row.hash === undefined || row.hash === hash, "Hash mismatch", row);
  need(head === null || row.prev_hash === head, "prevHash mismatch", row);
  head = hash;
  const signature = Buffer.from(row.signature, "base64");
  const signed = dialect === "kernel" ? Buffer.from(JSON.stringify({ data: hash, ts: iso(row.ts) })) : undefined;
  const good = candidates(row).some((signer) => {
    need(signer, "Unknown signer", row);
    const key = createPublicKey(signer.public_key_pem);
    if (key.asymmetricKeyType === "ed25519") return verify(null, signed ?? Buffer.from(hash, "hex"), key, signature);
    // A signature over a digest is one over what was hashed.
    const preimage = signed ?? Buffer.concat([Buffer.from(concatenated(row.payload)), before(row)]);
    return key.asymmetricKeyType === "rsa" && verify("sha256", preimage, key, signature);
  });
  need(good, "Signature verification failed", row);
}
console.log(`Audit chain verified. Head hash: ${head}`);
