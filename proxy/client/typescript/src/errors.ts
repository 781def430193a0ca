// What can go wrong, by whose fault and whether asking again can help. Programs decide by class and `code`.

/** An `application/problem+json` body (RFC 9457): why the service refused. */
export interface Problem {
  /** HTTP status. */
  readonly status: number;
  /** Stable, kebab-case: what programs decide by. */
  readonly code: string;
  /** One line for people. */
  readonly title: string;
  /** What was wrong with this request. */
  readonly detail: string | undefined;
  /** Finds the request in the service's log. */
  readonly requestId: string | undefined;
}

/** The base of every error of this package. */
export abstract class ChanceryError extends Error {
  /** Stable: a problem's own code, or this package's word for what happened. */
  abstract readonly code: string;
  /** Whether the same request under the same `idempotencyKey` may pass a moment later. */
  readonly retryable: boolean = false;
  /** The key the request went out under; repeat the call with it and nothing is done twice. */
  idempotencyKey: string | undefined;

  override get name(): string {
    return this.constructor.name;
  }
}

/** The options cannot be used: a wrong URL, a missing or foreign file. Nothing was sent. */
export class ConfigurationError extends ChanceryError {
  readonly code = "configuration";
}

/** A value that does not fit a request. The caller is at fault; nothing was sent. */
export class InvalidRequestError extends ChanceryError {
  readonly code = "invalid-request";
}

/** No connection could be made, in any attempt. Nothing was sent. */
export class UnavailableError extends ChanceryError {
  readonly code = "unavailable";
  override readonly retryable = true;
}

/** One side refused the other's certificate. The configuration is at fault; nothing was asked. */
export class TlsError extends ChanceryError {
  readonly code = "tls";
}

/** The connection was lost after the request went out, in the last attempt too: it may have been carried out. */
export class InterruptedError extends ChanceryError {
  readonly code = "interrupted";
  override readonly retryable = true;
}

/** The call's deadline passed. As {@link InterruptedError}. */
export class DeadlineError extends ChanceryError {
  readonly code = "deadline";
  override readonly retryable = true;
}

/** The service answered what this client cannot read, or about another request. It was probably carried out. */
export class ReplyError extends ChanceryError {
  readonly code = "unreadable-reply";
}

/**
 * Refusals under which nothing was decided yet: the same request under the same key may pass soon. A failed key
 * use is not among them, because its outcome stands under its key for good.
 */
const PASSING = new Set([
  "overloaded",
  "draining",
  "rate-limited",
  "body-timeout",
  "release-pending",
  "request-in-flight",
]);

/** Whether a refusal with this code is one that passes by itself. */
export function isPassing(code: string): boolean {
  return PASSING.has(code);
}

/** The service refused. */
export class RefusedError extends ChanceryError {
  readonly code: string;
  readonly status: number;
  readonly requestId: string | undefined;
  override readonly retryable: boolean;

  /** `retryAfterMs` is what `Retry-After` asked for, in milliseconds. */
  constructor(
    readonly problem: Problem,
    readonly retryAfterMs: number | undefined,
  ) {
    const why = problem.detail ?? problem.title;
    super(
      `${problem.status} ${problem.code}: ${why}${problem.requestId === undefined ? "" : ` (request ${problem.requestId})`}`,
    );
    this.code = problem.code;
    this.status = problem.status;
    this.requestId = problem.requestId;
    this.retryable = isPassing(problem.code);
  }
}

/** What a receipt was refused for. */
export type ReceiptFault =
  | "shape" // not a receipt of version 1
  | "event" // the event in it is no leaf of this format, or was altered
  | "checkpoint" // not signed by a key of the registry's ledger, or of another ledger
  | "inclusion" // the proof does not lead from the event to the checkpoint's root
  | "signer" // the key is not in the registry, not the one asked for, or was not active at this index
  | "signature" // the individual signature does not verify
  | "another-request" // good, but not about what was asked
  | "unsupported"; // this runtime cannot verify the algorithm: nothing can be said

/** A receipt does not prove what it should. Keep it: it is evidence against who made it. */
export class ReceiptError extends ChanceryError {
  readonly code = "receipt";

  constructor(
    readonly fault: ReceiptFault,
    message: string,
  ) {
    super(`receipt: ${message}`);
  }
}

/** The signers registry cannot be used. Whoever supplied the file is at fault. */
export class RegistryError extends ChanceryError {
  readonly code = "registry";
}
