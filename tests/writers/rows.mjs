// Rows of an audit chain as one of the platform's writers makes them, each in a few lines of its own and sharing
// nothing with the verifier: rows.mjs DIALECT COUNT DIR [FORK] writes DIR/rows.ndjson, with every column of the
// writer's table, DIR/signers.json, and the throw-away key as DIR/key.pem. Row FORK follows the row before the last
// one, as happens to these writers under load.
import { createHash, createHmac, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { concatenated, rebuilt } from "./canonical.mjs";

const [dialect, count, dir] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const fork = Number(process.argv[5] ?? -1);
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();

const pair = dialect === "agent-manager"
  ? generateKeyPairSync("rsa", { modulusLength: 2048 })
  : generateKeyPairSync("ed25519");
const kid = `${dialect}-signer-v1`;
const pem = pair.publicKey.export({ type: "spki", format: "pem" });
const algorithm = dialect === "agent-manager" ? "rsa-sha256" : "ed25519";

// PKCS#1 v1.5 over a digest as KMS does it: the same as signing what was hashed.
const signHashed = (message, digest) =>
  algorithm === "ed25519" ? sign(null, digest, pair.privateKey) : sign("sha256", message, pair.privateKey);

const payload = (n) => ({
  order: n, 10: "ten", 9: "nine", amount: n / 8, nested: { b: [true, null, "é", "<&>"], a: `row ${n}` },
});
const start = Date.UTC(2026, 0, 15, 12);
const rows = [];
const previous = new Map();
const hashes = [];
for (let n = 0; n < count; n += 1) {
  const ts = new Date(start + n * 1000).toISOString();
  const actor = dialect === "shared" ? `actor-${n % 3}` : "all";
  const before = n === fork ? hashes[n - 2 * (dialect === "shared" ? 3 : 1)] : (previous.get(actor) ?? null);
  const raw = before === null ? Buffer.alloc(0) : Buffer.from(before, "hex");
  const base = { id: randomUUID(), event_type: "order.paid", payload: payload(n), prev_hash: before };
  let row, hash;
  if (dialect === "kernel") {
    hash = sha256(JSON.stringify({
      eventType: base.event_type, payload: rebuilt(base.payload), prevHash: before, ts,
    })).toString("hex");
    const signedAt = new Date(start + n * 1000 + (n % 4)).toISOString();
    const signature = sign(null, Buffer.from(JSON.stringify({ data: hash, ts: signedAt })), pair.privateKey);
    row = {
      ...base, hash, ts, signature: signature.toString("base64"), signer_id: kid, metadata: {},
      s3_object_key: "audit/1", s3_archived_at: null, stream_status: "pending", stream_attempts: 0, sampled: false,
      retention_expires_at: null,
    };
  } else if (dialect === "shared") {
    hash = sha256(JSON.stringify(rebuilt({
      actor_id: actor, created_at: ts, event_type: base.event_type, payload: base.payload, prev_hash: before,
    }))).toString("hex");
    const signature = sign(null, Buffer.from(hash, "hex"), pair.privateKey).toString("base64");
    row = { ...base, actor_id: actor, hash, created_at: ts, signature, signer_kid: kid };
  } else {
    if (dialect === "memory-layer") base.payload.callerPrevHash = "none";
    const message = Buffer.concat([Buffer.from(concatenated(base.payload)), raw]);
    hash = sha256(message).toString("hex");
    const digest = Buffer.from(hash, "hex");
    const signature = dialect === "kernel-server"
      ? createHmac("sha256", "a word").update(digest).digest("base64")
      : signHashed(message, digest).toString("base64");
    row = { ...base, signature };
    if (dialect === "agent-manager") Object.assign(row, { actor_id: actor, created_at: ts, signer_kid: kid });
    if (dialect === "memory-layer") {
      const references = { memory_node_id: randomUUID(), artifact_id: null, manifest_signature_id: null };
      Object.assign(row, { hash, created_at: ts }, references);
    }
    if (dialect === "kernel-server") Object.assign(row, { hash, ts, signer_id: "dev" });
  }
  previous.set(actor, hash);
  hashes.push(hash);
  rows.push(JSON.stringify(row));
}
writeFileSync(`${dir}/rows.ndjson`, rows.map((row) => `${row}\n`).join(""));
writeFileSync(`${dir}/key.pem`, pair.privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
const signers = [{ signer_kid: kid, algorithm, public_key_pem: pem, deployedAt: "2026-01-01T00:00:00Z" }];
if (dialect === "kernel-server") signers.push({ signer_kid: "dev", algorithm: "hmac-sha256", key: "secret" });
writeFileSync(`${dir}/signers.json`, JSON.stringify({ signers }));
