// `signers.json`: whom a verifier trusts. Validity is by position on the ledger, not by clock.

import { readFileSync } from "node:fs";
import { RegistryError } from "./errors.js";
import { isObject, parse, type Json, type JsonObject } from "./json.js";
import { parseVkey, type Checkpoint, type NoteKey } from "./log.js";
import { isAlgorithm, isMac, readPublicKey, type PublicKey } from "./signatures.js";

const SIGNER_MEMBERS = new Set([
  "signer_kid",
  "kid",
  "algorithm",
  "public_key_pem",
  "purpose",
  "state",
  "deployedAt",
  "retiredAt",
  "activatedIndex",
  "retiredIndex",
  "compromisedSince",
  "description",
]);
const STATES = new Set(["staged", "active", "deprecated", "retired", "compromised"]);
const ED25519_PEM = /^-----BEGIN PUBLIC KEY-----\n(\S+)\n-----END PUBLIC KEY-----\s*$/;

/** One key pair of the registry. */
export interface Signer {
  /** The key pair's name for ever. */
  readonly signerKid: string;
  /** The name callers ask for; it outlives the pair. */
  readonly kid: string | undefined;
  readonly algorithm: string;
  /** `undefined` for MAC keys, `"unsupported"` where this runtime lacks the algorithm. */
  readonly key: PublicKey | "unsupported" | undefined;
  /** First index at which it may sign; `undefined` if it is only staged. */
  readonly activatedIndex: number | undefined;
  /** First index at which it may no longer sign. */
  readonly retiredIndex: number | undefined;
  /** First index from which its signatures are suspect. */
  readonly compromisedSince: number | undefined;
}

/** The registry of one ledger's signers. Get it by a way you trust, not from the service you check with it. */
export class SignersRegistry {
  private constructor(
    /** First line of every checkpoint. */
    readonly origin: string,
    /** The keys that may sign checkpoints: of Ed25519, and of ML-DSA-44 if there are some. */
    readonly noteKeys: readonly NoteKey[],
    /** By `signerKid`. */
    readonly signers: ReadonlyMap<string, Signer>,
    /** Of the Ed25519 keys those that are signers, each with its signer. */
    private readonly firstKeys: readonly (readonly [NoteKey, Signer])[],
    /** Of the keys for ML-DSA-44 those that are signers, each with its signer. */
    private readonly secondKeys: readonly (readonly [NoteKey, Signer])[],
  ) {}

  /** Reads a file. Throws {@link RegistryError}. */
  static fromFile(path: string): SignersRegistry {
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      throw new RegistryError(`${path}: ${(error as Error).message}`);
    }
    return SignersRegistry.parse(text);
  }

  /** Reads the file's text. One half understood is not trusted: any surprise throws {@link RegistryError}. */
  static parse(text: string): SignersRegistry {
    let file: Json;
    try {
      file = parse(text);
    } catch (error) {
      throw new RegistryError(`not valid JSON: ${(error as Error).message}`);
    }
    if (!isObject(file) || !only(file, ["version", "ledger", "signers"]) || file["version"] !== 1)
      throw new RegistryError("not a registry of version 1");
    const { ledger, signers: entries } = file;
    if (!isObject(ledger) || !Array.isArray(entries)) throw new RegistryError("not a registry of version 1");
    const { origin, vkeys } = ledger;
    const listed = Array.isArray(vkeys)
      ? vkeys.map((vkey) => (typeof vkey === "string" ? parseVkey(vkey) : undefined))
      : [];
    const keys = listed.filter((key) => key !== undefined);
    if (
      !only(ledger, ["origin", "vkeys", "policy"]) ||
      !keys.some((key) => key.algorithm === "ed25519") ||
      keys.length !== listed.length ||
      keys.some((key) => key.name !== origin)
    ) {
      throw new RegistryError("no valid keys of the ledger");
    }
    if (ledger["policy"] !== undefined && !hasLogs(ledger["policy"], vkeys as string[]))
      throw new RegistryError("the policy is not of the ledger's keys");
    const signers = new Map<string, Signer>();
    const firstKeys: [NoteKey, Signer][] = [];
    const secondKeys: [NoteKey, Signer][] = [];
    for (const entry of entries) {
      const signer = readSigner(entry);
      if (signers.has(signer.signerKid)) throw new RegistryError(`lists ${signer.signerKid} twice`);
      signers.set(signer.signerKid, signer);
      const raw = rawEd25519(entry as JsonObject);
      if (signer.algorithm === "ed25519" && raw !== undefined) {
        for (const key of keys) if (key.algorithm === "ed25519" && key.raw.equals(raw)) firstKeys.push([key, signer]);
      }
      if (signer.algorithm === "ml-dsa-44") {
        const spki = spkiOf(entry as JsonObject);
        for (const key of keys) if (key.algorithm === "ml-dsa-44" && endsWith(spki, key.raw)) secondKeys.push([key, signer]);
      }
    }
    return new SignersRegistry(origin as string, keys, signers, firstKeys, secondKeys);
  }

  /** Whether entries may stand under this name: that of a key whose checkpoints count. */
  isLedgerKey(signerKid: string): boolean {
    return this.firstKeys.some(([, signer]) => signer.signerKid === signerKid);
  }

  /**
   * Whether a checkpoint counts alone: an Ed25519 key that signed it is no signer's, or that of one that was neither
   * retired nor compromised at its last entry.
   */
  stands({ size, signedBy }: Checkpoint): boolean {
    const ended = this.firstKeys.filter(([, signer]) => hasEndedAt(signer, size - 1)).map(([key]) => key);
    return signedBy.some((key) => !ended.includes(key));
  }

  /**
   * Keys of which one must have signed a checkpoint of that size beside Ed25519: those for ML-DSA-44 that were active at
   * its last entry.
   */
  noteKeysDue(size: number): readonly NoteKey[] {
    return this.secondKeys.filter(([, signer]) => size > 0 && isValidAt(signer, size - 1)).map(([key]) => key);
  }

  /** Whether some pair has this logical name. */
  hasKid(kid: string): boolean {
    return [...this.signers.values()].some((signer) => signer.kid === kid);
  }
}

/** Whether a signature of this key at `index` counts. */
export function isValidAt(signer: Signer, index: number): boolean {
  const { activatedIndex } = signer;
  return activatedIndex !== undefined && activatedIndex <= index && !hasEndedAt(signer, index);
}

/** Whether it is retired or compromised at `index`. */
function hasEndedAt({ retiredIndex = Infinity, compromisedSince = Infinity }: Signer, index: number): boolean {
  return retiredIndex <= index || compromisedSince <= index;
}

function only(value: JsonObject, names: readonly string[]): boolean {
  return Object.keys(value).every((name) => names.includes(name));
}

/** Whether a policy's logs are exactly these keys. Its witnesses are not read: nothing here counts cosignatures. */
function hasLogs(policy: Json, vkeys: readonly string[]): boolean {
  if (typeof policy !== "string" || !policy.endsWith("\n")) return false;
  const lines = policy.split("\n").map((line) => line.split(/[ \t]+/).filter((word) => word !== ""));
  const logs = lines.filter((words) => words[0] === "log" && [2, 3].includes(words.length)).map((words) => words[1]);
  return vkeys.every((vkey) => logs.includes(vkey)) && logs.every((log) => log !== undefined && vkeys.includes(log));
}

function readSigner(entry: Json): Signer {
  const fail = (what: string): RegistryError => new RegistryError(`a signer with ${what}`);
  if (!isObject(entry) || !only(entry, [...SIGNER_MEMBERS])) throw fail("unknown members");
  const { signer_kid: signerKid, kid, algorithm, public_key_pem: pem, state } = entry;
  const isKid = (name: Json | undefined): name is string =>
    typeof name === "string" && /^[a-z0-9._-]{1,64}$/.test(name);
  if (!isKid(signerKid) || (kid !== undefined && !isKid(kid))) throw fail("no valid name");
  if (typeof algorithm !== "string" || !isAlgorithm(algorithm)) throw fail(`an unknown algorithm: ${signerKid}`);
  if (typeof state !== "string" || !STATES.has(state)) throw fail(`an unknown state: ${signerKid}`);
  const index = (name: string): number | undefined => {
    const value = entry[name];
    if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) >= 0))
      throw fail(`a bad ${name}: ${signerKid}`);
    return value as number | undefined;
  };
  if (isMac(algorithm) !== (pem === undefined) || (pem !== undefined && typeof pem !== "string"))
    throw fail(`a missing or needless key: ${signerKid}`);
  const key = pem === undefined ? undefined : readPublicKey(algorithm, pem);
  if (key === "bad") throw fail(`a key that is not valid for its algorithm: ${signerKid}`);
  const places = {
    activatedIndex: index("activatedIndex"),
    retiredIndex: index("retiredIndex"),
    compromisedSince: index("compromisedSince"),
  };
  if (state === "compromised" && places.compromisedSince === undefined)
    throw fail(`no index since when it is compromised: ${signerKid}`);
  return { signerKid, kid, algorithm, key, ...places };
}

/** The bytes between a PEM's first and last line. */
function spkiOf(entry: JsonObject): Buffer {
  return Buffer.from(String(entry["public_key_pem"] ?? "").replace(/-----.*?-----|\n/g, ""), "base64");
}

function endsWith(bytes: Buffer, end: Buffer): boolean {
  return bytes.length > end.length && bytes.subarray(-end.length).equals(end);
}

/** The 32 bytes inside an Ed25519 key's PEM. */
function rawEd25519(entry: JsonObject): Buffer | undefined {
  const match = ED25519_PEM.exec(String(entry["public_key_pem"] ?? ""));
  return match?.[1] === undefined ? undefined : Buffer.from(match[1], "base64").subarray(-32);
}
