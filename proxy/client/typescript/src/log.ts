// The transparency log's arithmetic: RFC 6962 hashes, RFC 9162 inclusion proofs, C2SP signed checkpoints.

import { createHash } from "node:crypto";
import { fromBase64 } from "./json.js";
import { ed25519Key, verifyEd25519, type Ed25519Key } from "./signatures.js";

/** Largest note read, in characters, and most signature lines. */
const NOTE_MAX = 1024 * 1024;
const SIGNATURES_MAX = 100;

/** SHA-256 of all parts, one after the other. */
export function sha256(...parts: (string | Uint8Array)[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** The tree's hash of one entry. */
export function leafHash(entry: Uint8Array): Buffer {
  return sha256(Uint8Array.of(0), entry);
}

/** The tree's hash of two children. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  return sha256(Uint8Array.of(1), left, right);
}

/** Whether `proof`, from the leaf's sibling to the root's child, leads from `leaf` at `index` to `root`. */
export function isIncluded(leaf: Buffer, index: number, size: number, proof: readonly Buffer[], root: Buffer): boolean {
  if (index < 0 || index >= size) return false;
  let position = BigInt(index);
  let last = BigInt(size) - 1n;
  let node = leaf;
  for (const sibling of proof) {
    if (last === 0n) return false;
    if ((position & 1n) === 1n || position === last) {
      node = nodeHash(sibling, node);
      // A node without a right neighbour moves up unchanged.
      while ((position & 1n) === 0n && position !== 0n) {
        position >>= 1n;
        last >>= 1n;
      }
    } else {
      node = nodeHash(node, sibling);
    }
    position >>= 1n;
    last >>= 1n;
  }
  return last === 0n && node.equals(root);
}

/** A key that may sign checkpoints. */
export interface NoteKey {
  readonly name: string;
  /** Four bytes, in hex. */
  readonly id: string;
  /** 32 bytes. */
  readonly raw: Buffer;
  readonly key: Ed25519Key;
}

/** Reads `name+hex(key id)+base64(type ‖ key)`; `undefined` if it is not an Ed25519 key in its one spelling. */
export function parseVkey(vkey: string): NoteKey | undefined {
  const match = /^([^\s+\p{Cc}]+)\+([0-9a-f]{8})\+(.+)$/u.exec(vkey);
  const [, name, id, material] = match ?? [];
  const bytes = fromBase64(material ?? "");
  if (name === undefined || id === undefined || bytes?.[0] !== 1 || bytes.length !== 33) return undefined;
  const raw = bytes.subarray(1);
  const key = ed25519Key(raw);
  const expected = sha256(name, "\n\x01", raw).toString("hex", 0, 4);
  return key !== undefined && id === expected ? { name, id, raw, key } : undefined;
}

/** A checkpoint whose signature was verified. */
export interface Checkpoint {
  readonly origin: string;
  /** Number of leaves. */
  readonly size: number;
  /** 32 bytes. */
  readonly root: Buffer;
}

/**
 * Reads a C2SP checkpoint of `origin` and verifies it. Lines of unknown keys are ignored; a known key whose
 * signature fails refuses the note. Gives the reason if it is refused.
 */
export function verifyCheckpoint(note: string, origin: string, keys: readonly NoteKey[]): Checkpoint | string {
  const split = note.lastIndexOf("\n\n");
  if (note.length > NOTE_MAX || split < 0 || !note.endsWith("\n") || /[\0-\t\x0b-\x1f]/.test(note))
    return "not a signed note";
  const text = note.slice(0, split + 1);
  const lines = note.slice(split + 2, -1).split("\n");
  if (lines.length > SIGNATURES_MAX) return "too many signatures";
  const signed = new Set<NoteKey>();
  for (const line of lines) {
    const [, name, material] = /^\u2014 ([^\s+]+) (\S+)$/u.exec(line) ?? [];
    const bytes = fromBase64(material ?? "");
    if (bytes === undefined || bytes.length < 5) return "a line that is no signature";
    const id = bytes.toString("hex", 0, 4);
    const key = keys.find((known) => known.name === name && known.id === id);
    if (key === undefined) continue;
    if (signed.has(key) || !verifyEd25519(key.key, Buffer.from(text), bytes.subarray(4)))
      return "its signature does not verify";
    signed.add(key);
  }
  const [first, size, root, ...rest] = text.split("\n");
  const hash = fromBase64(root ?? "");
  const count = /^(?:0|[1-9][0-9]*)$/.test(size ?? "") ? Number(size) : Number.NaN;
  if (hash?.length !== 32 || !Number.isSafeInteger(count) || rest.length !== 1 || rest[0] !== "")
    return "not a checkpoint";
  if (first !== origin) return "of another ledger";
  if (![...signed].some((key) => key.name === origin)) return "not signed by a key of the registry";
  return { origin, size: count, root: hash };
}
