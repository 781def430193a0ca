// One method per call of the service.

import type {
  Answer,
  BatchItem,
  EventReply,
  EventRequest,
  MacReply,
  MacRequest,
  Pending,
  SignReply,
  SignRequest,
  StreamPage,
  VerifyReply,
} from "./api.js";
import { ChanceryError, InvalidRequestError, ReceiptError, ReplyError } from "./errors.js";
import { parse, type JsonObject } from "./json.js";
import { sha256 } from "./log.js";
import type { Options } from "./options.js";
import { verifyReceipt, type Asked, type Proof, type VerifyOptions } from "./receipt.js";
import type { SignersRegistry } from "./registry.js";
import {
  answersEvent,
  answersSign,
  batchOf,
  eventReply,
  macReply,
  members,
  object,
  pendingReply,
  signReply,
} from "./replies.js";
import { randomIdempotencyKey, Transport, type Call, type Reply } from "./transport.js";

/** A signature waits for people's approval. Repeat the call under the same key, or look with `pending`. */
export class PendingError extends ChanceryError {
  readonly code = "pending-approval";

  constructor(readonly pending: Pending) {
    super(`waits for approval: ${pending.approvals} of ${pending.required}`);
  }
}

/** How one call is to be made. */
export interface CallOptions {
  /** Makes retries safe, also those after this process died. Default: a random one. */
  idempotencyKey?: string;
}

/** A proof, beside the receipt it was read from: keep the receipt. */
export interface Proven {
  readonly proof: Proof;
  /** The receipt's text; {@link verifyReceipt} and `chancery-verify receipt` read it. */
  readonly receipt: string;
}

/** A client of one service. Calls may run at once; they share connections. */
export class ChanceryClient {
  private readonly transport: Transport;

  /** Reads certificates and key; connects when the first call is made. Throws {@link ConfigurationError}. */
  constructor(options: Options) {
    this.transport = new Transport(options);
  }

  /** `POST /v1/sign`. Under the same key, the same request gets the same signature, for ever. */
  async sign(request: SignRequest, options: CallOptions = {}): Promise<Answer<SignReply>> {
    const answer = await this.post("/v1/sign", signBody(request), signReply, options);
    if (answersSign(answer.value, request)) return answer;
    throw failed(new ReplyError("it answers another request"), answer.idempotencyKey);
  }

  /** `POST /v1/sign/batch`: up to 1,000 requests, a signature or a problem for each, in order. */
  async signBatch(
    requests: readonly SignRequest[],
    options: CallOptions = {},
  ): Promise<Answer<BatchItem<SignReply>[]>> {
    const answer = await this.post("/v1/sign/batch", { items: requests.map(signBody) }, batchOf(signReply), options);
    return matched(answer, requests, answersSign);
  }

  /** `POST /v1/verify`: the service's opinion. {@link verifyReceipt} asks nobody. */
  async verify(request: SignRequest & { signature: string }): Promise<Answer<VerifyReply>> {
    const { kid, digest, digestAlgorithm = "sha256", signature } = request;
    return this.send(
      { method: "POST", path: "/v1/verify", body: JSON.stringify({ kid, digest, digestAlgorithm, signature }) },
      members({ valid: "boolean", kid: "string", keyState: "string" }),
    );
  }

  /** `POST /v1/mac`. */
  async mac(request: MacRequest, options: CallOptions = {}): Promise<Answer<MacReply>> {
    const answer = await this.post("/v1/mac", macBody(request), macReply, options);
    if (answer.value.kid === request.kid && answer.value.digest === sha256(request.message).toString("hex"))
      return answer;
    throw failed(new ReplyError("it answers another request"), answer.idempotencyKey);
  }

  /** `POST /v1/mac/verify`: only the service can. Each call is a use of the key, so a lost one is not repeated. */
  async verifyMac(request: MacRequest & { mac: string }): Promise<boolean> {
    const body = JSON.stringify({ ...macBody(request), mac: request.mac });
    const answer = await this.send(
      { method: "POST", path: "/v1/mac/verify", body, once: true },
      members({ valid: "boolean" }),
    );
    return answer.value["valid"] === true;
  }

  /** `POST /v1/events`. Under the same key, the same event is appended once. */
  async append(event: EventRequest, options: CallOptions = {}): Promise<Answer<EventReply>> {
    const answer = await this.post("/v1/events", event, eventReply, options);
    if (answersEvent(answer.value, event)) return answer;
    throw failed(new ReplyError("it answers another request"), answer.idempotencyKey);
  }

  /** `POST /v1/events/batch`: an event or a problem for each, in order. */
  async appendBatch(
    events: readonly EventRequest[],
    options: CallOptions = {},
  ): Promise<Answer<BatchItem<EventReply>[]>> {
    const answer = await this.post("/v1/events/batch", { items: events }, batchOf(eventReply), options);
    return matched(answer, events, answersEvent);
  }

  /** `GET /v1/receipts/{index}`: the receipt's text, once a checkpoint covers the entry. Proves nothing unverified. */
  async receipt(index: number): Promise<string> {
    return (await this.transport.call({ method: "GET", path: `/v1/receipts/${index}` })).body;
  }

  /**
   * Fetches the receipt of what was answered and verifies it locally against what was *asked*: see
   * {@link verifyReceipt}. Throws {@link ReceiptError} where the service's word and its proof differ.
   */
  async prove(
    asked: Exclude<Asked, "anything">,
    answered: SignReply | MacReply | EventReply,
    registry: SignersRegistry,
    options: VerifyOptions = {},
  ): Promise<Proven> {
    const { index } = answered.receipt;
    const whole = "inclusionProof" in answered.receipt;
    const receipt = whole ? JSON.stringify(answered.receipt) : await this.receipt(index);
    const proof = verifyReceipt(receipt, registry, asked, options);
    const said = "mac" in answered ? answered.mac : "hash" in answered ? undefined : answered.signature;
    const same = proof.index === index && proof.event["id"] === answered.id && proof.signature === said;
    const hash = "hash" in answered ? answered.hash : proof.event["hash"];
    if (!same || proof.event["hash"] !== hash)
      throw new ReceiptError("another-request", "it proves another entry than the reply's");
    return { proof, receipt };
  }

  /** `GET /v1/events/{id}`: one entry, of any type. */
  async event(id: string): Promise<Answer<EventReply>> {
    return this.send({ method: "GET", path: `/v1/events/${encodeURIComponent(id)}` }, eventReply);
  }

  /** `GET /v1/streams/{stream}`: a page of a stream's entries, from position `from` on. */
  async stream(name: string, from = 0, limit = 100): Promise<Answer<StreamPage>> {
    const path = `/v1/streams/${encodeURIComponent(name)}?from=${from}&limit=${limit}`;
    return this.send({ method: "GET", path }, (value) => {
      const { items, next } = value;
      if (!Array.isArray(items) || !(next === null || typeof next === "number"))
        throw new ReplyError("not a page of a stream");
      return { items: items.map((item) => eventReply(object(item))), next };
    });
  }

  /** `GET /v1/pending/{id}`: what became of a signature that waits for approval. */
  async pending(id: string): Promise<Answer<Pending>> {
    return this.send({ method: "GET", path: `/v1/pending/${encodeURIComponent(id)}` }, pendingReply);
  }

  /** `GET /v1/signers.json`. Over this connection it is the service's word: pin a copy that reached you another way. */
  async signers(): Promise<string> {
    return (await this.transport.call({ method: "GET", path: "/v1/signers.json" })).body;
  }

  /** `GET /health`: needs no certificate. */
  async health(): Promise<string> {
    return (await this.transport.call({ method: "GET", path: "/health" })).body;
  }

  /** Closes idle connections. */
  close(): void {
    this.transport.close();
  }

  private post<T>(
    path: string,
    body: unknown,
    read: (value: JsonObject) => T,
    options: CallOptions,
  ): Promise<Answer<T>> {
    const idempotencyKey = options.idempotencyKey ?? randomIdempotencyKey();
    if (!/^[!#-[\]-~]{1,128}$/.test(idempotencyKey))
      throw new InvalidRequestError("an Idempotency-Key is 1 to 128 printable ASCII characters");
    return this.send({ method: "POST", path, body: JSON.stringify(body), idempotencyKey }, read);
  }

  private async send<T>(call: Call, read: (value: JsonObject) => T): Promise<Answer<T>> {
    const reply = await this.transport.call(call);
    return {
      value: understood(reply, call, read),
      body: reply.body,
      requestId: reply.requestId,
      idempotencyKey: call.idempotencyKey,
    };
  }
}

function understood<T>(reply: Reply, call: Call, read: (value: JsonObject) => T): T {
  try {
    const value = object(parse(reply.body));
    if (reply.status === 202) throw new PendingError(pendingReply(value));
    return read(value);
  } catch (error) {
    throw failed(
      error instanceof ChanceryError ? error : new ReplyError(`unreadable reply: ${(error as Error).message}`),
      call.idempotencyKey,
    );
  }
}

function failed(error: ChanceryError, idempotencyKey: string | undefined): ChanceryError {
  error.idempotencyKey = idempotencyKey;
  return error;
}

function signBody({ digestAlgorithm = "sha256", ...rest }: SignRequest): SignRequest {
  return { ...rest, digestAlgorithm };
}

function macBody({ kid, message }: MacRequest): { kid: string; message: string } {
  return { kid, message: Buffer.from(message).toString("base64") };
}

/** Hands a batch's answer on if its items are those of the requests. */
function matched<T, R>(
  answer: Answer<BatchItem<T>[]>,
  requests: readonly R[],
  fits: (value: T, request: R) => boolean,
): Answer<BatchItem<T>[]> {
  const { value: items, idempotencyKey } = answer;
  const all =
    items.length === requests.length && items.every((item, at) => !item.ok || fits(item.value, requests[at] as R));
  if (all) return answer;
  throw failed(new ReplyError("its items answer other requests"), idempotencyKey);
}
