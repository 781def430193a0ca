// Documents that the platform's JavaScript services sign, each made in a few lines of its own and sharing nothing with
// the verifier: documents.mjs DIR writes them and DIR/signers.json.
import { constants, createHash, createHmac, generateKeyPairSync, privateEncrypt, randomUUID, sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { concatenated, rebuilt } from "./canonical.mjs";

const dir = process.argv[2];
const sha256 = (text) => createHash("sha256").update(text).digest();
const base64 = (bytes) => bytes.toString("base64");
const write = (name, value) => writeFileSync(`${dir}/${name}`, JSON.stringify(value, null, 2));

const signers = [];
const pair = (kid, type = "ed25519") => {
  const keys = generateKeyPairSync(type, type === "rsa" ? { modulusLength: 2048 } : {});
  const pem = keys.publicKey.export({ type: "spki", format: "pem" });
  const algorithm = type === "rsa" ? "rsa-sha256" : "ed25519";
  signers.push({ signer_kid: kid, algorithm, public_key_pem: pem, deployedAt: "2026-01-01T00:00:00Z" });
  return keys.privateKey;
};
const kernel = pair("kernel-ed25519-v1");
const kernelRsa = pair("kernel-rsa-v1", "rsa");
const ts = "2026-02-03T04:05:06.789Z";
const manifest = {
  id: "manifest-7", name: "reporter é", version: "1.2.0", 10: "ten", 9: "nine",
  capabilities: ["read", "<write>"], limits: { memoryMb: 512, ratio: 0.25, strict: true, parent: null, big: 9007199254740992 },
};

// The TypeScript kernel: the text of manifest and time is signed as it is.
const payload = JSON.stringify(rebuilt({ manifest, ts }));
const record = (key, signer_id, algorithm, more = {}) => ({
  audit_id: randomUUID(),
  signature_record: {
    id: randomUUID(), manifest_id: "manifest-7", signer_id, algorithm, key_version: "3", version: "1", ts,
    signature: base64(sign(algorithm === "ed25519" ? null : "sha256", Buffer.from(payload), key)), ...more,
  },
});
write("kernel-ed25519.json", { manifest, ...record(kernel, "kernel-ed25519-v1", "ed25519") });
write("kernel-rsa.json", { manifest, ...record(kernelRsa, "kernel-rsa-v1", "rsa-sha256") });
// Its proxy told a time of its own, 137 ms later, and that is what was stored.
const later = new Date(Date.parse(ts) + 137).toISOString();
write("kernel-late.json", { manifest, ...record(kernel, "kernel-ed25519-v1", "ed25519", { ts: later }) });
// The row of the table, without the manifest.
write("kernel-row.json", record(kernel, "kernel-ed25519-v1", "ed25519").signature_record);
write("manifest.json", manifest);
// The engine that rebuilds objects member by member loses this name, and so does the signature.
const text = JSON.stringify(manifest).replace("{", '{"__proto__":{"admin":true},');
writeFileSync(`${dir}/kernel-proto.json`,
  `{"manifest":${text},"signature_record":${JSON.stringify(record(kernel, "kernel-ed25519-v1", "ed25519").signature_record)}}`);

// What agent-manager takes: Ed25519 over the hash, RSA over the hash of the hash.
const hash = sha256(concatenated(manifest));
write("consumer-ed25519.json", { manifest, signature: base64(sign(null, hash, kernel)), kid: "kernel-ed25519-v1" });
write("consumer-rsa.json", { manifest, signature: base64(sign("sha256", hash, kernelRsa)), kid: "kernel-rsa-v1" });
// kernel/server makes MACs.
signers.push({ signer_kid: "dev", algorithm: "hmac-sha256", key: "secret" });
write("mac.json", { manifest, signature: createHmac("sha256", "a word").update(hash).digest("base64"), kid: "dev" });

// Finance's ledger proof, as its tool writes it: rows of jq -cS, one hash, one signature.
const rows = Array.from({ length: 40 }, (_, n) =>
  `${concatenated({ id: n, account: `acc-${n % 3}`, side: "debit", amount_cents: n * 100, note: "é <&>" })}\n`).join("");
const rowsHash = sha256(rows);
const finance = pair("finance-ed25519-v1");
const financeRsa = pair("finance-rsa-v1", "rsa");
const info = Buffer.from("3031300d060960864801650304020105000420", "hex");
const signDigest = (digest, key) => {
  // PKCS#1 v1.5 over a digest that is not hashed again.
  const block = Buffer.concat([info, digest]);
  return privateEncrypt({ key, padding: constants.RSA_PKCS1_PADDING }, block);
};
const proof = (signature, signer_kid) => ({
  proof_id: "ledger-proof-20260203T040506Z-0123456789ab",
  range: { from_ts: "2026-01-01T00:00:00Z", to_ts: "2026-01-31T23:59:59Z" },
  hash: rowsHash.toString("hex"), signer_kid, signature: base64(signature), ts: "2026-02-03T04:05:06Z", num_rows: 40,
});
write("proof-ed25519.json", proof(sign(null, rowsHash, finance), "finance-ed25519-v1"));
write("proof-rsa.json", proof(signDigest(rowsHash, financeRsa), "finance-rsa-v1"));
write("proof-kms.json", proof(sign("sha256", rowsHash, financeRsa), "finance-rsa-v1"));
for (const name of ["proof-ed25519", "proof-rsa"]) {
  writeFileSync(`${dir}/${name}.ledger_rows.jsonl.gz`, gzipSync(rows));
}
writeFileSync(`${dir}/rows.jsonl`, rows);

// Finance's proof package: chunks of 500 lines, and a signature by RSA-PSS for each role.
const lead = pair("arn:aws:kms:eu-central-1:1:key/lead", "rsa");
const security = pair("arn:aws:kms:eu-central-1:1:key/security", "rsa");
const pack = (count, keyOf) => {
  const ledgerLines = Array.from({ length: count }, (_, n) =>
    JSON.stringify(rebuilt({ journalId: `j-${n}`, lines: [{ account: "é", cents: n }], 7: n })));
  const hashChain = [];
  for (let start = 0; start < count; start += 500) {
    const lines = ledgerLines.slice(start, start + 500);
    hashChain.push({
      chunk: hashChain.length, range: { start, end: start + lines.length - 1 },
      hash: sha256(lines.join("\n")).toString("hex"), prev: hashChain.at(-1)?.hash,
    });
  }
  const manifest = { range: { from: "2026-01-01", to: "2026-01-31" }, entries: count, rootHash: hashChain.at(-1).hash };
  const manifestHash = sha256(JSON.stringify(rebuilt(manifest))).toString("hex");
  const signatures = ["FinanceLead", "SecurityEngineer"].map((role) => {
    const [keyId, key] = keyOf(role);
    const message = JSON.stringify({ manifestHash, payloadHash: hashChain.at(-1).hash, role });
    const padding = constants.RSA_PKCS1_PSS_PADDING;
    return { role, keyId, signature: base64(sign("sha256", message, { key, padding, saltLength: 32 })), signedAt: ts };
  });
  return { proofId: randomUUID(), manifest, ledgerLines, hashChain, signatures };
};
const each = (role) => (role === "FinanceLead"
  ? ["arn:aws:kms:eu-central-1:1:key/lead", lead]
  : ["arn:aws:kms:eu-central-1:1:key/security", security]);
write("package.json", pack(1203, each));
write("package-small.json", pack(7, each));
write("package-one-key.json", pack(7, () => ["arn:aws:kms:eu-central-1:1:key/lead", lead]));

// memory-layer's proof of several signers.
const digest = sha256("what they agree on");
const people = ["ann", "ben", "cem"].map((signerId) => [signerId, pair(`${signerId}-v1`)]);
write("combined.json", {
  digestHex: digest.toString("hex"), threshold: 2, requestedAt: ts, okCount: 3,
  signatures: people.map(([signerId, key]) => ({
    signerId, kid: `${signerId}-v1`, alg: "ed25519", signature: base64(sign(null, digest, key)),
  })),
});
write("signers.json", { signers });
