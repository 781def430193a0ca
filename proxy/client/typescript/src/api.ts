// The shapes of requests and replies. Members a reply has beside these are ignored: the service may add some.

import type { Problem } from "./errors.js";
import type { JsonObject } from "./json.js";

/** What made the digest. */
export type DigestAlgorithm = "sha256" | "sha384" | "sha512";

/** A digest to sign, and with which key. */
export interface SignRequest {
  /** The key's logical name. */
  kid: string;
  /** Lower-case hex. */
  digest: string;
  /** Default `sha256`. */
  digestAlgorithm?: DigestAlgorithm;
  /** `individual` (default): the key signs. `anchored`: the receipt, under a signed checkpoint, is the signature. */
  mode?: "individual" | "anchored";
  /** What it is for; recorded. */
  purpose?: string;
  /** Context; recorded. At most 32 KiB. */
  metadata?: JsonObject;
}

/** A message to authenticate, and with which key. */
export interface MacRequest {
  kid: string;
  /** The bytes themselves; only their SHA-256 is recorded. */
  message: Uint8Array;
}

/** An event to append. */
export interface EventRequest {
  /** Dotted lower case by convention: `order.paid`. */
  eventType: string;
  payload: JsonObject;
  /** Default: the caller's own stream. */
  stream?: string;
  /** A name of your own; it can be used once. */
  id?: string;
  /** Who acted, if not the caller. */
  actor?: string;
  /** RFC 3339 UTC with milliseconds; default: the ledger's clock. */
  ts?: string;
  manifestSignatureId?: string;
  metadata?: JsonObject;
}

/** A reply as read, beside its text. */
export interface Answer<T> {
  /** What this client understood. */
  readonly value: T;
  /** The body exactly as it came. Retries under one key get the same. */
  readonly body: string;
  /** The service's `x-request-id`. */
  readonly requestId: string | undefined;
  /** The key the request went out under. */
  readonly idempotencyKey: string | undefined;
}

/** Where an entry stands. A whole receipt has more members; {@link verifyReceipt} reads those. */
export interface ReceiptPointer {
  readonly index: number;
}

/** What replies about an entry have in common. */
export interface Enrolled {
  /** The entry's name. */
  readonly id: string;
  /** When it was enrolled, RFC 3339. */
  readonly ts: string;
  readonly receipt: ReceiptPointer;
}

/** A second key's signature over the same digest. */
export interface CoSignature {
  readonly kid: string;
  readonly signer_kid: string;
  readonly algorithm: string;
  /** Standard base64. */
  readonly signature: string;
}

/** A signature that is on the ledger. */
export interface SignReply extends Enrolled {
  readonly kid: string;
  /** The key pair that signed; the ledger's own where the digest was anchored. */
  readonly signer_kid: string;
  /** Absent where the digest was anchored. */
  readonly algorithm?: string;
  readonly digest: string;
  readonly digestAlgorithm: string;
  /** Standard base64; absent where the digest was anchored. */
  readonly signature?: string;
  readonly coSigner?: CoSignature;
  /** What held before release: `durable`, `checkpointed`, `witnessed`, `archived`. The service's word, not proven. */
  readonly rung: string;
}

/** A message authentication code that is on the ledger. */
export interface MacReply extends Enrolled {
  /** Standard base64. */
  readonly mac: string;
  readonly kid: string;
  readonly signer_kid: string;
  readonly algorithm: string;
  /** SHA-256 of the message, hex. */
  readonly digest: string;
  readonly rung: string;
}

/** An appended event. */
export interface EventReply extends Enrolled {
  readonly seq: number;
  readonly stream: string;
  readonly eventType: string;
  readonly actor: string;
  /** Absent for readers who may not see payloads. */
  readonly payload?: JsonObject;
  /** Lower-case hex; the next event of the stream names it. */
  readonly hash: string;
  readonly prevHash: string | null;
  /** Its row, if its stream is set to the dialect of an existing writer: with the names of that writer's columns. */
  readonly row?: JsonObject;
}

/** What became of one item of a batch. */
export type BatchItem<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: Problem };

/** The service's opinion of a signature. */
export interface VerifyReply {
  readonly valid: boolean;
  readonly kid: string;
  readonly keyState: string;
}

/** A page of a stream. */
export interface StreamPage {
  readonly items: readonly EventReply[];
  /** `from` of the next page; `null` at the end. */
  readonly next: number | null;
}

/** A signature that waits for people's approval. */
export interface Pending {
  readonly id: string;
  readonly status: string;
  readonly approvals: number;
  readonly required: number;
  readonly expiresAt: string;
  /** Once it was made. */
  readonly result?: SignReply;
}
