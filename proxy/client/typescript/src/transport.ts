// One call: its deadline, its attempts, and what a loss may have done.
//
// A call is tried again only where that cannot do a thing twice: when no connection came about, when it was lost
// (the request carries the same `Idempotency-Key`, or only reads; a call marked `once` is not sent again), and when
// the service refused before doing anything and said that this passes. HTTP/1.1 over TLS 1.3, connections reused.

import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { request as httpsRequest, type Agent } from "node:https";
import type { Duplex } from "node:stream";
import {
  DeadlineError,
  InterruptedError,
  isPassing,
  RefusedError,
  ReplyError,
  TlsError,
  UnavailableError,
  type ChanceryError,
  type Problem,
} from "./errors.js";
import { isObject, parse } from "./json.js";
import { agentOf, DEFAULT_PORT, serviceUrl, type Options } from "./options.js";

/** A request, kept whole so that it can be sent again as it was. */
export interface Call {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: string;
  readonly accept?: string;
  readonly idempotencyKey?: string;
  /** Never sent again once it may have arrived. */
  readonly once?: boolean;
}

/** A reply with a status of success. */
export interface Reply {
  readonly status: number;
  readonly body: string;
  readonly requestId: string | undefined;
}

/** How one attempt failed. */
export type Failure =
  | { readonly kind: "unreachable"; readonly cause: string }
  | { readonly kind: "tls"; readonly cause: string }
  /** After the request may have gone out; `reused` tells that the connection had been idle. */
  | { readonly kind: "lost"; readonly cause: string; readonly reused: boolean }
  | { readonly kind: "late" }
  | { readonly kind: "refused"; readonly problem: Problem; readonly retryAfterMs: number | undefined }
  | { readonly kind: "unreadable"; readonly cause: string };

const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 2_000;
const REPLY_BYTES_MAX = 64 * 1024 * 1024;

/** How long to wait before the next attempt; `undefined` if there is to be none. `random` is between 0 and 1. */
export function pauseMs(
  failure: Failure,
  call: Call,
  attempt: number,
  lostBefore: boolean,
  random: number,
): number | undefined {
  const whole = Math.min(BACKOFF_FIRST_MS * 2 ** (attempt - 1), BACKOFF_MAX_MS);
  // Between a half and all of it, so that callers who lost the same service do not come back together.
  const jittered = whole / 2 + (whole / 2) * random;
  if (failure.kind === "refused")
    return isPassing(failure.problem.code) ? Math.max(failure.retryAfterMs ?? 0, jittered) : undefined;
  if (failure.kind === "unreachable") return jittered;
  if (failure.kind !== "lost" || call.once === true) return undefined;
  // An idle connection that the service closed meanwhile is no sign of trouble.
  return failure.reused && !lostBefore ? 0 : jittered;
}

/** Sends calls to one service. */
export class Transport {
  private readonly agent: Agent;
  /** Connections whose handshake is done. */
  private readonly ready = new WeakSet<Duplex>();
  private readonly url: URL;
  private readonly attemptsMax: number;
  private readonly callTimeoutMs: number;
  private readonly connectTimeoutMs: number;

  constructor(options: Options) {
    this.url = serviceUrl(options.url);
    this.agent = agentOf(options);
    this.attemptsMax = Math.max(options.attemptsMax ?? 5, 1);
    this.callTimeoutMs = options.callTimeoutMs ?? 30_000;
    this.connectTimeoutMs = options.connectTimeoutMs ?? 5_000;
  }

  /** Closes idle connections. Calls under way go on. */
  close(): void {
    // The agent's own `destroy` would end calls under way, too.
    for (const idle of Object.values(this.agent.freeSockets)) idle?.slice().forEach((socket) => socket.destroy());
  }

  /** Carries the call out, whatever that takes within its deadline. */
  async call(call: Call): Promise<Reply> {
    const deadline = performance.now() + this.callTimeoutMs;
    let lost: string | undefined;
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.attempt(call, deadline);
      if (!("kind" in outcome)) return outcome;
      const pause = pauseMs(outcome, call, attempt, lost !== undefined, Math.random());
      const over = attempt >= this.attemptsMax || pause === undefined || performance.now() + pause >= deadline;
      if (over) throw this.errorOf(outcome, lost, call);
      if (outcome.kind === "lost") lost = outcome.cause;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  /** What the caller is told, given that an earlier attempt may have been lost on its way. */
  private errorOf(failure: Failure, lost: string | undefined, call: Call): ChanceryError {
    const made = (): ChanceryError => {
      const interrupted = (cause: string): ChanceryError =>
        new InterruptedError(`connection lost, the request may have been carried out: ${cause}`);
      switch (failure.kind) {
        case "unreachable":
          return lost === undefined ? new UnavailableError(`service unavailable: ${failure.cause}`) : interrupted(lost);
        case "tls":
          return new TlsError(`TLS refused: ${failure.cause}`);
        case "lost":
          return interrupted(failure.cause);
        case "late":
          return new DeadlineError(`no answer within ${this.callTimeoutMs} ms, the request may have been carried out`);
        case "refused":
          return new RefusedError(failure.problem, failure.retryAfterMs);
        case "unreadable":
          return new ReplyError(`unreadable reply: ${failure.cause}`);
      }
    };
    const error = made();
    error.idempotencyKey = call.idempotencyKey;
    return error;
  }

  private attempt(call: Call, deadline: number): Promise<Reply | Failure> {
    return new Promise((resolve) => {
      const left = deadline - performance.now();
      if (left <= 0) return resolve({ kind: "late" });
      const host = this.url.hostname.replace(/^\[|\]$/g, "");
      const request = httpsRequest({
        agent: this.agent,
        host,
        port: this.url.port || DEFAULT_PORT,
        method: call.method,
        path: call.path,
        headers: headersOf(call),
      });
      let [connected, reused] = [false, false];
      const settle = (outcome: Reply | Failure): void => {
        timers.forEach(clearTimeout);
        resolve(outcome);
        if ("kind" in outcome && outcome.kind !== "refused") request.destroy();
      };
      const slow = (): void => {
        if (!connected) settle({ kind: "unreachable", cause: `no TLS connection within ${this.connectTimeoutMs} ms` });
      };
      const timers = [setTimeout(() => settle({ kind: "late" }), left)];
      // Before this the request waits for one of the connections.
      request.on("socket", (socket) => {
        // Node's own `reusedSocket` leaves out those that were waited for.
        connected = reused = this.ready.has(socket);
        if (reused) return;
        socket.once("secureConnect", () => {
          connected = true;
          this.ready.add(socket);
        });
        timers.push(setTimeout(slow, this.connectTimeoutMs));
      });
      request.on("error", (error: NodeJS.ErrnoException) => settle(failureOf(error, connected, reused)));
      request.on("response", (response) => {
        readBody(response).then(
          (body) =>
            settle(
              body === undefined
                ? { kind: "unreadable", cause: `larger than ${REPLY_BYTES_MAX} bytes` }
                : outcomeOf(response, body),
            ),
          (error: NodeJS.ErrnoException) => settle(failureOf(error, true, reused)),
        );
      });
      request.end(call.body);
    });
  }
}

function headersOf(call: Call): Record<string, string | number> {
  const headers: Record<string, string | number> = {
    accept: call.accept ?? "application/json",
    "user-agent": "chancery-typescript/0.1.0",
  };
  if (call.body !== undefined) {
    headers["content-type"] = "application/json";
    headers["content-length"] = Buffer.byteLength(call.body);
  }
  if (call.idempotencyKey !== undefined) headers["idempotency-key"] = call.idempotencyKey;
  return headers;
}

/** Certificates that were not accepted, by either side; anything else is the network's. */
const TLS_CODES =
  /^(?:ERR_SSL_|ERR_TLS_|CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|HOSTNAME_MISMATCH|INVALID_|PATH_LENGTH_)/;

function failureOf(error: NodeJS.ErrnoException & { reason?: string }, connected: boolean, reused: boolean): Failure {
  // OpenSSL's own words are in `reason`; the message has its source lines around them.
  const cause = error.reason ?? error.message;
  if (TLS_CODES.test(error.code ?? "")) return { kind: "tls", cause };
  return connected ? { kind: "lost", cause, reused } : { kind: "unreachable", cause };
}

/** The whole body; `undefined` if it is too large. */
async function readBody(response: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > REPLY_BYTES_MAX) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function outcomeOf(response: IncomingMessage, bytes: Buffer): Reply | Failure {
  const status = response.statusCode ?? 0;
  const header = response.headers["x-request-id"];
  const requestId = typeof header === "string" ? header : undefined;
  if (status >= 200 && status < 300) {
    const body = bytes.toString("utf8");
    return Buffer.from(body).equals(bytes) ? { status, body, requestId } : { kind: "unreadable", cause: "not UTF-8" };
  }
  const seconds = /^[0-9]{1,9}$/.test(response.headers["retry-after"] ?? "")
    ? Number(response.headers["retry-after"])
    : undefined;
  const retryAfterMs = seconds === undefined ? undefined : 1_000 * seconds;
  return { kind: "refused", problem: readProblem(bytes.toString("utf8"), status, requestId), retryAfterMs };
}

/** Reads a refusal; a body that is no problem keeps its status under the code `unexpected-reply`. */
export function readProblem(body: string, status: number, requestId: string | undefined): Problem {
  try {
    const value = parse(body);
    if (isObject(value) && typeof value["code"] === "string") return problemOf(value, status, requestId);
  } catch {
    // Not ours, then.
  }
  const title = "the service refused without a problem document";
  return { status, code: "unexpected-reply", title, detail: undefined, requestId };
}

/** A problem's members. */
export function problemOf(value: Record<string, unknown>, status: number, requestId: string | undefined): Problem {
  const text = (name: string): string | undefined =>
    typeof value[name] === "string" ? (value[name] as string) : undefined;
  const stated = typeof value["status"] === "number" ? value["status"] : status;
  return {
    status: stated,
    code: text("code") ?? "unexpected-reply",
    title: text("title") ?? "",
    detail: text("detail"),
    requestId: text("requestId") ?? requestId,
  };
}

/** A fresh `Idempotency-Key` of 128 random bits, for one request and all its retries. */
export function randomIdempotencyKey(): string {
  return `key-${randomBytes(16).toString("hex")}`;
}
