// An entry of the ledger, FORMAT.md §1, §1.1, §2, §5 and §7: its shape, its own hash, and that it is in its place.

import { ReceiptError, type ReceiptFault } from "./errors.js";
import { isObject, type Json, type JsonObject } from "./json.js";
import { sha256 } from "./log.js";
import type { SignersRegistry } from "./registry.js";

const LEAF_BYTES_MAX = 65_535;
const MEMBERS = [
  "actor",
  "eventType",
  "hash",
  "id",
  "payload",
  "prevHash",
  "seq",
  "signer_kid",
  "stream",
  "ts",
  "version",
];
const OPTIONAL = ["chain", "manifestSignatureId", "metadata"];
const DIALECTS = ["agent-manager", "kernel", "kernel-go", "kernel-server", "memory-layer", "shared"];
const OUTCOME = /^signing\.signature\.(?:issued|failed|abandoned|anchored|checking)$/;
// What acts of people are called, and everything that is the appliance's own.
const GOVERNANCE =
  /^(?:governance|kill_switch|signer\.rotation)\.|^signer\.(?:testing|tested|compromise)$|^ledger\.(?:reverified|key\.continued)$/;
const OWN =
  /^(?:signing|signer|ledger|kill_switch|governance)\.|^(?:registry\.published|request\.refused|policy\.(?:loaded|verdict))$/;
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** Throws unless `condition` holds. */
export function need(condition: boolean, fault: ReceiptFault, message: string): asserts condition {
  if (!condition) throw new ReceiptError(fault, message);
}

/** Throws {@link ReceiptError} unless `event`, whose canonical bytes are `leaf`, is an entry that may stand at `index`. */
export function checkLeaf(event: JsonObject, leaf: Buffer, index: number, registry: SignersRegistry): void {
  const names = Object.keys(event);
  need(leaf.length <= LEAF_BYTES_MAX, "event", "the event is larger than 65,535 bytes");
  need(
    MEMBERS.every((name) => names.includes(name)) &&
      names.every((name) => MEMBERS.includes(name) || OPTIONAL.includes(name)),
    "event",
    "its members are not those of an event",
  );
  const plain = (name: string, most: number): boolean => {
    const text = event[name];
    return typeof text === "string" && text.length <= most && /^[!#-[\]-~]+$/.test(text);
  };
  need(
    plain("actor", 256) &&
      plain("eventType", 128) &&
      plain("id", 128) &&
      plain("stream", 256) &&
      plain("signer_kid", 64),
    "event",
    "a name of the event is none",
  );
  need(
    event["manifestSignatureId"] === undefined || plain("manifestSignatureId", 128),
    "event",
    "manifestSignatureId is no name",
  );
  need(
    isObject(event["payload"]) && (event["metadata"] === undefined || isObject(event["metadata"])),
    "event",
    "payload and metadata must be objects",
  );
  need(event["version"] === 1 && isTime(event["ts"]), "event", "version or ts");
  const { seq, prevHash, hash } = event;
  const isHash = (text: Json | undefined): text is string => typeof text === "string" && /^[0-9a-f]{64}$/.test(text);
  need(
    Number.isSafeInteger(seq) && (seq as number) >= 0 && (seq === 0 ? prevHash === null : isHash(prevHash)),
    "event",
    "seq or prevHash",
  );
  // What the row's hash is over only the writer's own verifiers, and chancery-verify, compute again.
  const chain = event["chain"];
  need(
    chain === undefined ||
      (isObject(chain) &&
        Object.keys(chain).sort().join() === "dialect,hash,prevHash" &&
        DIALECTS.includes(chain["dialect"] as string) &&
        isHash(chain["hash"]) &&
        (chain["prevHash"] === null || isHash(chain["prevHash"]))),
    "event",
    "its chain is none",
  );
  // The only such text: before it stand names, which hold no quote, and hashes that this one depends on.
  const without = isHash(hash) ? leaf.toString().replace(`"hash":"${hash}",`, "") : "";
  need(sha256(without).toString("hex") === hash, "event", "its hash is not that of its content");
  checkPlace(
    event as JsonObject & Record<"actor" | "eventType" | "id" | "stream" | "signer_kid", string>,
    index,
    registry,
  );
}

/** A time from 1970 on, in the one spelling of leaves. */
function isTime(text: Json | undefined): boolean {
  if (typeof text !== "string" || !TIME.test(text)) return false;
  const date = new Date(text);
  return date.getTime() >= 0 && date.toISOString() === text;
}

function checkPlace(
  event: Record<"actor" | "eventType" | "id" | "stream" | "signer_kid", string>,
  index: number,
  registry: SignersRegistry,
): void {
  const { actor, eventType, id, stream, signer_kid: ledgerKid } = event;
  const own = OWN.test(eventType);
  const outcome = OUTCOME.test(eventType);
  const home = GOVERNANCE.test(eventType) ? "chancery/governance" : "chancery";
  const reserved = stream === "chancery" || stream.startsWith("chancery/") || actor === "chancery";
  const atHome = stream === home && actor === "chancery";
  need(atHome ? !outcome : !reserved && (outcome || !own), "event", "it has a name that is the appliance's own");
  const tag = idTag(registry.origin);
  const shaped = id.startsWith(tag) && /^[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id.slice(tag.length));
  need(id === idOf(registry.origin, index) || (!own && !shaped), "event", "its id is that of another place");
  const retired = registry.signers.get(ledgerKid)?.retiredIndex ?? Infinity;
  need(
    registry.isLedgerKey(ledgerKid) && index <= retired,
    "signer",
    `it does not stand under a key of the ledger: ${ledgerKid}`,
  );
}

function idTag(origin: string): string {
  const tag = sha256(origin).toString("hex", 0, 6);
  return `${tag.slice(0, 8)}-${tag.slice(8)}-8000-`;
}

/** The id of the entry at `index` if its author gave none. */
export function idOf(origin: string, index: number): string {
  const place = BigInt(index);
  const hex = (value: bigint, digits: number): string => value.toString(16).padStart(digits, "0");
  return `${idTag(origin)}${hex(0x8000n | (place >> 48n), 4)}-${hex(place & 0xffff_ffff_ffffn, 12)}`;
}
