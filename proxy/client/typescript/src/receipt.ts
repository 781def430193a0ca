// Checks a receipt on the caller's machine. Nothing here asks the service, and nothing it says is believed but
// what the registry's keys signed.

import type { EventRequest, MacRequest, SignRequest } from "./api.js";
import { ReceiptError } from "./errors.js";
import { canonical, fromBase64, fromHex, isObject, parse, type Json, type JsonObject } from "./json.js";
import { checkLeaf, idOf, need } from "./leaf.js";
import { isIncluded, leafHash, sha256, verifyCheckpoint } from "./log.js";
import { isValidAt, type Signer, type SignersRegistry } from "./registry.js";
import { DIGEST_BYTES, isMac, takes } from "./signatures.js";

/** What was asked of the service, to which the receipt must belong; `"anything"` checks the receipt alone. */
export type Asked = { sign: SignRequest } | { mac: MacRequest } | { event: EventRequest } | "anything";

/** What a receipt proved. */
export interface Proof {
  /** The ledger's name. */
  readonly origin: string;
  /** Position on the ledger. */
  readonly index: number;
  /** Leaves under the checkpoint. */
  readonly treeSize: number;
  /** Root of the checkpoint, hex. */
  readonly root: string;
  /** The entry as it is on the ledger. */
  readonly event: JsonObject;
  /** Standard base64 of the key's own signature, or of the MAC; `undefined` where the entry has none. */
  readonly signature: string | undefined;
  /** The key pairs whose individual signatures verified: none, one, or with a co-signer two. */
  readonly signers: readonly string[];
  /** Key pairs whose signatures this runtime cannot verify; only with `unsupportedCoSigner: "report"`. */
  readonly unverified: readonly string[];
  /** Whether the receipt itself is the signature of the digest. */
  readonly anchored: boolean;
  /** Algorithms by which the ledger signed the checkpoint, verified: `ed25519`, and `ml-dsa-44` if it did and could be. */
  readonly checkpointVerified: readonly string[];
  /** Algorithms by which it signed and this runtime cannot verify: `ml-dsa-44` before Node.js 24.6. */
  readonly checkpointUnverified: readonly string[];
}

/** How strict to be. */
export interface VerifyOptions {
  /** What a co-signature by an algorithm that this runtime lacks means. Default `refuse`. */
  unsupportedCoSigner?: "refuse" | "report";
}

const RECEIPT_CHARS_MAX = 1024 * 1024;
const ISSUED = "signing.signature.issued";
const ANCHORED = "signing.signature.anchored";
/**
 * Verifies a receipt, as text, with the registry alone: the checkpoint's signature, the way from the event to its
 * root, the event's own hash and place, the individual signature by a key that was active there, and that all this
 * is about `asked`. Throws {@link ReceiptError}.
 */
export function verifyReceipt(
  receipt: string,
  registry: SignersRegistry,
  asked: Asked,
  options: VerifyOptions = {},
): Proof {
  const { event, index, treeSize, proof, note } = readReceipt(receipt);
  const checkpoint = verifyCheckpoint(note, registry.origin, registry.noteKeys, (size) => registry.noteKeysDue(size));
  if (typeof checkpoint === "string") throw new ReceiptError("checkpoint", `its checkpoint is refused: ${checkpoint}`);
  need(checkpoint.size === treeSize, "checkpoint", "its treeSize is not the checkpoint's");
  const leaf = Buffer.from(canonical(event));
  need(
    isIncluded(leafHash(leaf), index, treeSize, proof, checkpoint.root),
    "inclusion",
    "its proof does not lead to the checkpoint's root",
  );
  checkLeaf(event, leaf, index, registry);
  need(
    registry.stands(checkpoint),
    "checkpoint",
    "its checkpoint is signed by no ledger key that was neither retired nor compromised at its last entry",
  );
  const signatures = checkSignatures(event, index, registry, options.unsupportedCoSigner ?? "refuse");
  if (asked !== "anything") checkAsked(event, asked, index, registry);
  const signed = { checkpointVerified: checkpoint.verified, checkpointUnverified: checkpoint.unverified };
  const root = checkpoint.root.toString("hex");
  return { origin: registry.origin, index, treeSize, root, event, ...signatures, ...signed };
}

function readReceipt(text: string): {
  event: JsonObject;
  index: number;
  treeSize: number;
  proof: Buffer[];
  note: string;
} {
  need(text.length <= RECEIPT_CHARS_MAX, "shape", "larger than 1 MiB");
  let value: Json;
  try {
    value = parse(text);
  } catch (error) {
    throw new ReceiptError("shape", `not valid JSON: ${(error as Error).message}`);
  }
  need(isObject(value), "shape", "not an object");
  const { version, event, index, treeSize, inclusionProof, checkpoint, rung, ...rest } = value;
  const natural = (number: Json | undefined): number is number =>
    Number.isSafeInteger(number) && (number as number) >= 0;
  need(version === 1 && Object.keys(rest).length === 0, "shape", "not of version 1");
  need(
    isObject(event) && natural(index) && natural(treeSize) && typeof checkpoint === "string",
    "shape",
    "members missing",
  );
  need(["durable", "checkpointed", "witnessed", "archived"].includes(String(rung)), "shape", "unknown rung");
  const hashes = Array.isArray(inclusionProof) ? inclusionProof.map((hash) => fromHex(String(hash))) : [undefined];
  const proof = hashes.filter((hash) => hash?.length === 32) as Buffer[];
  need(proof.length === hashes.length, "shape", "inclusionProof is no list of hashes");
  return { event, index, treeSize, proof, note: checkpoint };
}

/** Members of the payloads that hold signatures; a reader refuses others. */
const USE = ["digest", "digestAlgorithm", "kid", "policy", "requestId"];
const USE_OPTIONAL = ["metadata", "purpose"];
const ISSUED_MEMBERS = [...USE, "algorithm", "operation", "release", "signature", "signer_kid"];
const ISSUED_OPTIONAL = [...USE_OPTIONAL, "coSigner", "dialect", "idempotencyKey", "requestSha256"];

function hasExactly(value: JsonObject, members: readonly string[], optional: readonly string[]): boolean {
  const names = Object.keys(value);
  const text = (name: string): boolean =>
    ["policy", "metadata", "coSigner"].includes(name) ? isObject(value[name]) : typeof value[name] === "string";
  return (
    members.every((name) => names.includes(name)) &&
    names.every((name) => (members.includes(name) || optional.includes(name)) && text(name))
  );
}

type Signatures = Pick<Proof, "signature" | "signers" | "unverified" | "anchored">;

/** What individual signatures the entry holds: each must verify, by a key that was active at `index`. */
function checkSignatures(
  event: JsonObject,
  index: number,
  registry: SignersRegistry,
  coSigner: "refuse" | "report",
): Signatures {
  const payload = event["payload"] as JsonObject;
  const none: Signatures = {
    signature: undefined,
    signers: [],
    unverified: [],
    anchored: event["eventType"] === ANCHORED,
  };
  if (event["eventType"] !== ISSUED && !none.anchored) return none;
  const shaped = none.anchored
    ? hasExactly(payload, USE, USE_OPTIONAL)
    : hasExactly(payload, ISSUED_MEMBERS, ISSUED_OPTIONAL);
  need(shaped, "event", "its payload is not that of its type");
  const {
    digest: hex,
    digestAlgorithm,
    kid,
    signature,
    operation,
    coSigner: second,
  } = payload as Record<string, string> & JsonObject;
  const digest = fromHex(String(hex));
  need(digest !== undefined && digest.length === DIGEST_BYTES[String(digestAlgorithm)], "event", "its digest is none");
  if (none.anchored) {
    need(registry.hasKid(String(kid)), "signer", `no key of the registry is called ${String(kid)}`);
    return none;
  }
  const uses = [payload];
  if (second !== undefined) {
    need(
      isObject(second) && hasExactly(second, ["algorithm", "kid", "signature", "signer_kid"], []),
      "event",
      "its coSigner is none",
    );
    uses.push(second);
  }
  const found = { signers: [] as string[], unverified: [] as string[] };
  uses.forEach((use, position) => {
    const signer = activeSigner(use, index, registry, isMac(String(payload["algorithm"])));
    need(operation === (isMac(signer.algorithm) ? "mac" : "sign"), "signer", "the operation is not its key's");
    need(
      takes(signer.algorithm, String(digestAlgorithm)),
      "signature",
      `${signer.algorithm} takes no ${String(digestAlgorithm)}`,
    );
    const bytes = fromBase64(String(use["signature"]));
    need(bytes !== undefined, "signature", "the signature is not base64 in its one spelling");
    if (signer.key === undefined) return;
    if (signer.key === "unsupported") {
      need(
        position > 0 && coSigner === "report",
        "unsupported",
        `this runtime cannot verify ${signer.algorithm} (${signer.signerKid})`,
      );
      found.unverified.push(signer.signerKid);
      return;
    }
    need(signer.key.verifies(digest, bytes), "signature", `the signature of ${signer.signerKid} does not verify`);
    found.signers.push(signer.signerKid);
  });
  return { ...none, ...found, signature };
}

/** The registry's record of the key that a payload names, if it is that key and could sign at `index`. */
function activeSigner(use: JsonObject, index: number, registry: SignersRegistry, mac: boolean): Signer {
  const { signer_kid: name, kid, algorithm } = use as Record<string, string>;
  const signer = registry.signers.get(String(name));
  need(signer !== undefined, "signer", `${name} is not in the registry`);
  need(signer.algorithm === algorithm && isMac(signer.algorithm) === mac, "signer", `${name} is of another algorithm`);
  need(signer.kid === undefined || signer.kid === kid, "signer", `${name} is not a key of ${kid}`);
  need(isValidAt(signer, index), "signer", `${name} was not active at this index`);
  return signer;
}

/** Whether the entry is what was asked for: each thing that was said, and nothing where nothing was. */
function checkAsked(
  event: JsonObject,
  asked: Exclude<Asked, "anything">,
  index: number,
  registry: SignersRegistry,
): void {
  const payload = event["payload"] as JsonObject;
  const same = (name: string, holder: JsonObject, wanted: unknown): void => {
    const text = wanted === undefined ? undefined : canonical(parse(JSON.stringify(wanted)));
    const found = holder[name] === undefined ? undefined : canonical(holder[name]);
    need(found === text, "another-request", `it is about another ${name}`);
  };
  if ("event" in asked) {
    const { stream, actor, id, ts, ...exact } = asked.event;
    for (const name of ["eventType", "payload", "manifestSignatureId", "metadata"] as const)
      same(name, event, exact[name]);
    for (const [name, wanted] of Object.entries({ stream, actor, ts }))
      if (wanted !== undefined) same(name, event, wanted);
    same("id", event, id ?? idOf(registry.origin, index));
    return;
  }
  const mac = "mac" in asked;
  const anchored = !mac && asked.sign.mode === "anchored";
  same("eventType", event, anchored ? ANCHORED : ISSUED);
  same("operation", payload, anchored ? undefined : mac ? "mac" : "sign");
  const {
    kid,
    digest,
    digestAlgorithm = "sha256",
    purpose,
    metadata,
  }: SignRequest = mac ? { kid: asked.mac.kid, digest: sha256(asked.mac.message).toString("hex") } : asked.sign;
  for (const [name, wanted] of Object.entries({ kid, digest, digestAlgorithm, purpose, metadata }))
    same(name, payload, wanted);
}
