// Reads a registry of keys as the platform's JavaScript verifiers do, and prints `name key` for each entry, the key as
// base64 of its SPKI: registry.mjs SHAPE FILE.
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";

const [shape, file] = process.argv.slice(2);
const registry = JSON.parse(readFileSync(file, "utf8"));
const fromDer = (text) => createPublicKey({ key: Buffer.from(text, "base64"), format: "der", type: "spki" });
const read = {
  // kernel/tools/audit-verify: a list, keys in PEM.
  signers: () => registry.signers.map((it) => [it.signer_kid, createPublicKey(it.public_key_pem)]),
  "signer-ids": () => registry.signers.map((it) => [it.signerId, createPublicKey(it.publicKey)]),
  "pem-map": () => Object.entries(registry).map(([name, pem]) => [name, createPublicKey(pem)]),
  // reasoning-graph/tools/verify_snapshot: looked up by name, SPKI in base64.
  "spki-map": () => Object.keys(registry).map((name) => [name, fromDer(registry[name].publicKey)]),
  // agent-manager: looked up by name, with the algorithm it will use.
  "kernel-keys": () => Object.keys(registry).map((name) => {
    if (!["ed25519", "rsa-sha256"].includes(registry[name].alg)) throw new Error(registry[name].alg);
    const key = createPublicKey(registry[name].key);
    if (key.asymmetricKeyType !== registry[name].alg.split("-")[0]) throw new Error(key.asymmetricKeyType);
    return [name, key];
  }),
}[shape];
for (const [name, key] of read()) {
  console.log(name, key.export({ type: "spki", format: "der" }).toString("base64"));
}
