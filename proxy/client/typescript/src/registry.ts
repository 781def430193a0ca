// `signers.json`: whom a verifier trusts. Validity is by position on the ledger, not by clock.

import { readFileSync } from "node:fs";
import { RegistryError } from "./errors.js";
import { isObject, parse, type Json, type JsonObject } from "./json.js";
import { parseVkey, type NoteKey } from "./log.js";
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
    /** The keys that may sign checkpoints. */
    readonly noteKeys: readonly NoteKey[],
    /** By `signerKid`. */
    readonly signers: ReadonlyMap<string, Signer>,
    private readonly ledgerKids: ReadonlySet<string>,
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
      !only(ledger, ["origin", "vkeys"]) ||
      keys.length === 0 ||
      keys.length !== listed.length ||
      keys.some((key) => key.name !== origin)
    ) {
      throw new RegistryError("no valid key of the ledger");
    }
    const signers = new Map<string, Signer>();
    const ledgerKids = new Set<string>();
    for (const entry of entries) {
      const signer = readSigner(entry);
      if (signers.has(signer.signerKid)) throw new RegistryError(`lists ${signer.signerKid} twice`);
      signers.set(signer.signerKid, signer);
      const raw = rawEd25519(entry as JsonObject);
      if (signer.algorithm === "ed25519" && keys.some((key) => raw !== undefined && key.raw.equals(raw)))
        ledgerKids.add(signer.signerKid);
    }
    return new SignersRegistry(origin as string, keys, signers, ledgerKids);
  }

  /** Whether entries may stand under this name: that of a key whose checkpoints count. */
  isLedgerKey(signerKid: string): boolean {
    return this.ledgerKids.has(signerKid);
  }

  /** Whether some pair has this logical name. */
  hasKid(kid: string): boolean {
    return [...this.signers.values()].some((signer) => signer.kid === kid);
  }
}

/** Whether a signature of this key at `index` counts. */
export function isValidAt(signer: Signer, index: number): boolean {
  const { activatedIndex, retiredIndex = Infinity, compromisedSince = Infinity } = signer;
  return activatedIndex !== undefined && activatedIndex <= index && index < retiredIndex && index < compromisedSince;
}

function only(value: JsonObject, names: readonly string[]): boolean {
  return Object.keys(value).every((name) => names.includes(name));
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
  return { signerKid, kid, algorithm, key, ...places };
}

/** The 32 bytes inside an Ed25519 key's PEM. */
function rawEd25519(entry: JsonObject): Buffer | undefined {
  const match = ED25519_PEM.exec(String(entry["public_key_pem"] ?? ""));
  return match?.[1] === undefined ? undefined : Buffer.from(match[1], "base64").subarray(-32);
}
