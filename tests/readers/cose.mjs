// Checks COSE receipts of one entry, written from RFC 9942, RFC 8949 and FORMAT.md §9.1 alone: cose.mjs VKEY LEAF-FILE
// Standard input has receipts in hexadecimal, one a line. Prints for each a line of JSON: what it proves, or why not.
import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const [vkey, leafFile] = process.argv.slice(2);
const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const refuse = (why) => { throw new Error(why); };

// A reader of the CBOR there is: integers, bytes, text, arrays, maps, tags, null.
function read(bytes) {
  let at = 0;
  const take = (count) => {
    if (at + count > bytes.length) refuse("it ends early");
    at += count;
    return bytes.subarray(at - count, at);
  };
  const item = () => {
    const [first] = take(1);
    const [major, info] = [first >> 5, first & 31];
    if (major === 7) return info === 22 ? null : refuse("a simple value");
    if (info > 27) refuse("a length that is not given");
    const size = info < 24 ? BigInt(info) : BigInt("0x" + Buffer.from(take(1 << (info - 24))).toString("hex"));
    const count = size > BigInt(bytes.length) ? Infinity : Number(size);
    if (major === 0) return size;
    if (major === 1) return -1n - size;
    if (count === Infinity) refuse("longer than it is");
    if (major === 2) return Buffer.from(take(count));
    if (major === 3) return new TextDecoder("utf-8", { fatal: true }).decode(take(count));
    if (major === 4) return Array.from({ length: count }, item);
    if (major === 5) return new Map(Array.from({ length: count }, () => [item(), item()]));
    return { tag: size, value: item() };
  };
  const value = item();
  if (at !== bytes.length) refuse("more than one item");
  return value;
}

// Writes the head of an item.
function head(major, size) {
  if (size < 24) return Buffer.from([(major << 5) | size]);
  if (size < 256) return Buffer.from([(major << 5) | 24, size]);
  return Buffer.from([(major << 5) | 25, size >> 8, size & 255]);
}
const bstr = (bytes) => Buffer.concat([head(2, bytes.length), bytes]);
const tstr = (text) => Buffer.concat([head(3, text.length), Buffer.from(text)]);

// RFC 9162 §2.1.3.2.
function rootOf(leaf, index, size, path) {
  if (index >= size) refuse("outside the tree");
  let [fn, sn, hash] = [index, size - 1n, leaf];
  for (const sibling of path) {
    if (sn === 0n) refuse("a hash too many");
    if ((fn & 1n) === 1n || fn === sn) {
      hash = sha256(Buffer.of(1), sibling, hash);
      while ((fn & 1n) === 0n && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      hash = sha256(Buffer.of(1), hash, sibling);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n ? hash : refuse("a hash too few");
}

function keys(map, ...expected) {
  const same = map instanceof Map && map.size === expected.length && expected.every((key) => map.has(key));
  return same ? map : refuse(`not a map of ${expected}`);
}

function check(receipt, leaf, origin, key) {
  const outer = read(receipt);
  if (outer?.tag !== 18n || !Array.isArray(outer.value) || outer.value.length !== 4) refuse("not a COSE_Sign1");
  const [protectedBytes, unprotected, payload, signature] = outer.value;
  if (payload !== null) refuse("the payload is not detached");
  const header = keys(read(protectedBytes), 1n, 15n, 395n);
  if (![-8n, -19n].includes(header.get(1n))) refuse("not by Ed25519");
  if (header.get(395n) !== 1n) refuse("another tree than RFC 9162's");
  const claims = keys(header.get(15n), 1n, -65537n);
  if (claims.get(1n) !== origin) refuse("of another ledger");
  const proofs = keys(keys(unprotected, 396n).get(396n), -1n).get(-1n);
  if (!Array.isArray(proofs) || proofs.length !== 1) refuse("not one proof");
  const [size, index, path] = read(proofs[0]);
  if (size !== claims.get(-65537n)) refuse("of another tree than what is signed");
  if (!path.every((hash) => Buffer.isBuffer(hash) && hash.length === 32)) refuse("not SHA-256");
  const root = rootOf(sha256(Buffer.of(0), leaf), index, size, path);
  const signed = Buffer.concat([head(4, 4), tstr("Signature1"), bstr(protectedBytes), bstr(Buffer.alloc(0)), bstr(root)]);
  if (!verify(null, signed, key, signature)) refuse("the signature does not verify");
  return { index: Number(index), size: Number(size), root: root.toString("hex") };
}

// NAME+HASH+BASE64(0x01 || key)
const [origin, , ...rest] = vkey.split("+");
const material = Buffer.from(rest.join("+"), "base64");
if (material[0] !== 1 || material.length !== 33) refuse("the vkey is not of Ed25519");
const raw = material.subarray(1);
const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]);
const key = createPublicKey({ key: der, format: "der", type: "spki" });
const leaf = readFileSync(leafFile);
for (const line of readFileSync(0, "utf8").split("\n").filter((line) => line)) {
  let said;
  try {
    said = check(Buffer.from(line, "hex"), leaf, origin, key);
  } catch (error) {
    said = { refused: String(error.message) };
  }
  console.log(JSON.stringify(said));
}
