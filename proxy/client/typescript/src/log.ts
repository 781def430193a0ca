// The transparency log's arithmetic: RFC 6962 hashes, RFC 9162 inclusion proofs, C2SP signed checkpoints.

import { createHash } from "node:crypto";
import { fromBase64 } from "./json.js";
import {
  ed25519Key,
  ML_DSA_44_SIGNATURE_BYTES,
  mlDsa44Key,
  verifyEd25519,
  type Ed25519Key,
  type PublicKey,
} from "./signatures.js";

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

interface Named {
  readonly name: string;
  /** Four bytes, in hex. */
  readonly id: string;
  /** The public key alone. */
  readonly raw: Buffer;
}

/** A key that may sign checkpoints; one for ML-DSA-44 is `"unsupported"` where the runtime lacks it. */
export type NoteKey = Named &
  (
    | { readonly algorithm: "ed25519"; readonly key: Ed25519Key }
    | { readonly algorithm: "ml-dsa-44"; readonly key: PublicKey | "unsupported" }
  );

/** Longest name that an ML-DSA-44 signature can cover, in bytes. */
const NAME_BYTES_MAX = 255;

/**
 * Reads `name+hex(key id)+base64(type ‖ key)`; `undefined` if it is not a key of type 0x01 (Ed25519) or 0x06
 * (ML-DSA-44) in its one spelling.
 */
export function parseVkey(vkey: string): NoteKey | undefined {
  const match = /^([^\s+\p{Cc}]+)\+([0-9a-f]{8})\+(.+)$/u.exec(vkey);
  const [, name, id, material] = match ?? [];
  const bytes = fromBase64(material ?? "");
  if (name === undefined || id === undefined || bytes === undefined) return undefined;
  if (id !== sha256(name, "\n", bytes).toString("hex", 0, 4)) return undefined;
  const raw = bytes.subarray(1);
  if (bytes[0] === 1) {
    const key = ed25519Key(raw);
    return key && { name, id, raw, algorithm: "ed25519", key };
  }
  if (bytes[0] !== 6 || Buffer.byteLength(name) > NAME_BYTES_MAX) return undefined;
  const key = mlDsa44Key(raw);
  return key && { name, id, raw, algorithm: "ml-dsa-44", key };
}

/** A checkpoint whose signature was verified. */
export interface Checkpoint {
  readonly origin: string;
  /** Number of leaves. */
  readonly size: number;
  /** 32 bytes. */
  readonly root: Buffer;
  /** Algorithms of the given keys' signatures on it that verified, Ed25519 among them. */
  readonly verified: readonly NoteKey["algorithm"][];
  /** Algorithms of those on which this runtime cannot say. */
  readonly unverified: readonly NoteKey["algorithm"][];
  /** The Ed25519 keys among them: at least one. */
  readonly signedBy: readonly NoteKey[];
}

/** What a checkpoint says. */
type Head = Pick<Checkpoint, "origin" | "size" | "root">;

function readHead(text: string): Head | undefined {
  const [origin, size, root, ...rest] = text.split("\n");
  const hash = fromBase64(root ?? "");
  const count = /^(?:0|[1-9][0-9]*)$/.test(size ?? "") ? Number(size) : Number.NaN;
  if (hash?.length !== 32 || !Number.isSafeInteger(count) || rest.length !== 1 || rest[0] !== "") return undefined;
  return { origin: origin ?? "", size: count, root: hash };
}

/** What a key of this name signs by ML-DSA-44 for a checkpoint (C2SP tlog-cosignature); `time` is eight bytes. */
export function cosignedMessage(name: string, time: Uint8Array, head: Head): Buffer {
  const named = (text: string): Buffer => Buffer.concat([Buffer.of(Buffer.byteLength(text)), Buffer.from(text)]);
  const range = Buffer.alloc(16);
  range.writeBigUInt64BE(BigInt(head.size), 8);
  return Buffer.concat([Buffer.from("subtree/v1\n\0"), named(name), time, named(head.origin), range, head.root]);
}

/** Whether a line by `key` verifies; `undefined` if this runtime cannot say. */
function isSignedBy(key: NoteKey, text: string, head: Head, signature: Buffer): boolean | undefined {
  if (key.algorithm === "ed25519") return verifyEd25519(key.key, Buffer.from(text), signature);
  const time = signature.subarray(0, 8);
  // Times end at 2^63 - 1.
  if (signature.length !== 8 + ML_DSA_44_SIGNATURE_BYTES || time[0]! > 0x7f) return false;
  if (Buffer.byteLength(head.origin) > NAME_BYTES_MAX) return false;
  if (key.key === "unsupported") return undefined;
  return key.key.verifies(cosignedMessage(key.name, time, head), signature.subarray(8));
}

/**
 * Reads a C2SP checkpoint of `origin` and verifies it. Lines of unknown keys are ignored; a known key whose
 * signature fails refuses the note, whatever else signed it, and so does one that signed by ML-DSA-44 alone. `due`
 * gives the keys of which one must have signed a checkpoint of a size, if there are some. Gives the reason if it is
 * refused.
 */
export function verifyCheckpoint(
  note: string,
  origin: string,
  keys: readonly NoteKey[],
  due: (size: number) => readonly NoteKey[] = () => [],
): Checkpoint | string {
  const split = note.lastIndexOf("\n\n");
  if (note.length > NOTE_MAX || split < 0 || !note.endsWith("\n") || /[\0-\t\x0b-\x1f]/.test(note))
    return "not a signed note";
  const text = note.slice(0, split + 1);
  const lines = note.slice(split + 2, -1).split("\n");
  if (lines.length > SIGNATURES_MAX) return "too many signatures";
  const head = readHead(text);
  if (head === undefined) return "not a checkpoint";
  if (head.origin !== origin) return "of another ledger";
  const signed = new Map<NoteKey, boolean>();
  for (const line of lines) {
    const [, name, material] = /^\u2014 ([^\s+]+) (\S+)$/u.exec(line) ?? [];
    const bytes = fromBase64(material ?? "");
    if (bytes === undefined || bytes.length < 5) return "a line that is no signature";
    const id = bytes.toString("hex", 0, 4);
    const key = keys.find((known) => known.name === name && known.id === id);
    if (key === undefined) continue;
    const verdict = isSignedBy(key, text, head, bytes.subarray(4));
    if (signed.has(key) || verdict === false) return "its signature does not verify";
    signed.set(key, verdict === true);
  }
  const algorithms = (wanted: boolean): NoteKey["algorithm"][] => {
    const own = [...signed].filter(([key, verified]) => key.name === origin && verified === wanted);
    return [...new Set(own.map(([key]) => key.algorithm))].sort();
  };
  const verified = algorithms(true);
  if (!verified.includes("ed25519")) return "not signed by an Ed25519 key of the registry";
  const needed = due(head.size);
  if (needed.length > 0 && !needed.some((key) => signed.has(key)))
    return "lacks the signature by ML-DSA-44 that is due";
  const signedBy = keys.filter((key) => key.algorithm === "ed25519" && key.name === origin && signed.has(key));
  return { ...head, verified, unverified: algorithms(false), signedBy };
}
