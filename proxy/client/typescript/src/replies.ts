// Reads replies, and tells whether they are about what was asked.

import type { BatchItem, EventReply, EventRequest, MacReply, Pending, SignReply, SignRequest } from "./api.js";
import { ReplyError, type Problem } from "./errors.js";
import { canonical, isObject, parse, type Json, type JsonObject } from "./json.js";
import { problemOf } from "./transport.js";

/** An object, or {@link ReplyError}. */
export function object(value: Json | undefined): JsonObject {
  if (isObject(value)) return value;
  throw new ReplyError("unreadable reply: not an object");
}

/** Reads an object that has these members, of these types. */
export function members<T>(
  types: Record<string, "string" | "number" | "boolean">,
): (value: JsonObject) => T & JsonObject {
  return (value) => {
    for (const [name, type] of Object.entries(types)) {
      if (typeof value[name] !== type) throw new ReplyError(`unreadable reply: no ${type} ${JSON.stringify(name)}`);
    }
    return value as T & JsonObject;
  };
}

/** The same of a reply about an entry, which says where that stands. */
function enrolled<T>(types: Record<string, "string" | "number" | "boolean">): (value: JsonObject) => T & JsonObject {
  const read = members<T>({ id: "string", ts: "string", ...types });
  return (value) => {
    members({ index: "number" })(object(value["receipt"]));
    return read(value);
  };
}

export const signReply = enrolled<SignReply>({
  kid: "string",
  signer_kid: "string",
  digest: "string",
  digestAlgorithm: "string",
  rung: "string",
});
export const macReply = enrolled<MacReply>({
  mac: "string",
  kid: "string",
  signer_kid: "string",
  algorithm: "string",
  digest: "string",
  rung: "string",
});
export const eventReply = enrolled<EventReply>({
  seq: "number",
  stream: "string",
  eventType: "string",
  actor: "string",
  hash: "string",
});
export const pendingReply = members<Pending>({
  id: "string",
  status: "string",
  approvals: "number",
  required: "number",
  expiresAt: "string",
});

/** Reads `{items: [...]}` of replies and problems. */
export function batchOf<T>(read: (value: JsonObject) => T): (value: JsonObject) => BatchItem<T>[] {
  const one = (item: Json): BatchItem<T> => {
    const value = object(item);
    if (typeof value["code"] !== "string") return { ok: true, value: read(value) };
    const problem: Problem = problemOf(value, 0, undefined);
    return { ok: false, problem };
  };
  return (value) => {
    if (!Array.isArray(value["items"])) throw new ReplyError("unreadable reply: no items");
    return value["items"].map(one);
  };
}

/** Whether a signature is of the digest and by the key that was asked for. */
export function answersSign(reply: SignReply, { kid, digest, digestAlgorithm = "sha256", mode }: SignRequest): boolean {
  const signed = mode === "anchored" ? reply.signature === undefined : typeof reply.signature === "string";
  return reply.kid === kid && reply.digest === digest && reply.digestAlgorithm === digestAlgorithm && signed;
}

/** Whether an event is the one that was to be appended. */
export function answersEvent(reply: EventReply, { eventType, payload, id, stream }: EventRequest): boolean {
  const text = canonical(parse(JSON.stringify(payload)));
  const named = (id === undefined || id === reply.id) && (stream === undefined || stream === reply.stream);
  return named && reply.eventType === eventType && reply.payload !== undefined && canonical(reply.payload) === text;
}
