// What is tried again, when, and what a caller is told. No connection is made here; integration.ts makes them.

import assert from "node:assert/strict";
import test from "node:test";
import { ConfigurationError, InterruptedError, RefusedError, UnavailableError } from "../src/errors.js";
import { pauseMs, randomIdempotencyKey, readProblem, Transport, type Call, type Failure } from "../src/transport.js";

const CALL: Call = { method: "POST", path: "/v1/sign", body: "{}", idempotencyKey: "k" };
const lost: Failure = { kind: "lost", cause: "reset", reused: false };

function refusal(code: string, retryAfterMs?: number): Failure {
  return {
    kind: "refused",
    problem: { status: 503, code, title: "t", detail: undefined, requestId: undefined },
    retryAfterMs,
  };
}

test("only what cannot happen twice is tried again", () => {
  const pause = (failure: Failure, call = CALL): number | undefined => pauseMs(failure, call, 1, false, 1);
  assert.equal(pause(lost), 50);
  assert.equal(pause({ kind: "unreachable", cause: "refused" }), 50);
  assert.equal(pause(lost, { ...CALL, once: true }), undefined, "it may have arrived");
  assert.equal(pause({ kind: "unreachable", cause: "refused" }, { ...CALL, once: true }), 50, "it did not arrive");
  for (const kind of ["tls", "late", "unreadable"] as const) assert.equal(pause({ kind, cause: "x" }), undefined, kind);
  for (const code of ["overloaded", "draining", "rate-limited", "body-timeout", "release-pending", "request-in-flight"])
    assert.equal(pause(refusal(code)), 50, code);
  for (const code of [
    "halted",
    "backend-unavailable",
    "signing-failed",
    "internal",
    "idempotency-conflict",
    "kid-not-granted",
    "unexpected-reply",
  ]) {
    assert.equal(pause(refusal(code)), undefined, code);
  }
});

test("pauses grow, are bounded and jittered, and wait as long as the service asked", () => {
  const pauses = [1, 2, 3, 6, 7, 60].map((attempt) => pauseMs(lost, CALL, attempt, true, 1));
  assert.deepEqual(pauses, [50, 100, 200, 1600, 2000, 2000]);
  assert.equal(pauseMs(lost, CALL, 2, true, 0), 50);
  assert.equal(pauseMs(refusal("rate-limited", 3_000), CALL, 1, false, 1), 3_000);
  assert.equal(pauseMs(refusal("rate-limited", 1), CALL, 1, false, 1), 50);
  assert.equal(pauseMs({ ...lost, reused: true }, CALL, 1, false, 1), 0, "an idle connection was closed");
  assert.equal(pauseMs({ ...lost, reused: true }, CALL, 2, true, 1), 100, "and another one: that is trouble");
});

test("a problem is read, and what is none keeps its status", () => {
  const problem = readProblem(
    '{"title":"No","status":403,"detail":"why","code":"kid-not-granted","requestId":"r1","new":1}',
    403,
    undefined,
  );
  const error = new RefusedError(problem, undefined);
  assert.deepEqual(
    [error.name, error.code, error.status, error.requestId, error.retryable],
    ["RefusedError", "kid-not-granted", 403, "r1", false],
  );
  assert.equal(error.message, "403 kid-not-granted: why (request r1)");
  for (const body of ["<html>", "[]", "{}", ""]) {
    const other = readProblem(body, 502, "r2");
    assert.deepEqual([other.status, other.code, other.requestId], [502, "unexpected-reply", "r2"]);
  }
  assert.ok(new RefusedError(readProblem('{"code":"draining","status":503}', 503, undefined), 1_000).retryable);
  assert.ok(new InterruptedError("x").retryable && new UnavailableError("x").retryable);
});

test("options that cannot work are refused before anything is sent", () => {
  for (const url of [
    "http://sign.example",
    "https://",
    "sign.example:8443",
    "https://a/b",
    "https://a/?q=1",
    "https://u:p@a/",
    "",
  ]) {
    assert.throws(
      () => new Transport({ url, caFile: "/nonexistent" }),
      (error) => error instanceof ConfigurationError && error.message.includes("service address"),
      url,
    );
  }
  const missing = (error: unknown): boolean =>
    error instanceof ConfigurationError && error.message.startsWith("/nonexistent/ca.crt: ");
  assert.throws(() => new Transport({ url: "https://a", caFile: "/nonexistent/ca.crt" }), missing);
  assert.throws(() => new Transport({ url: "https://a", caFile: "/dev/null" }), /holds no certificate/);
  assert.throws(() => new Transport({ url: "https://a", caFile: "/dev/null", keyFile: "/dev/null" }), /go together/);
});

test("idempotency keys do not repeat", () => {
  const keys = new Set(Array.from({ length: 100 }, randomIdempotencyKey));
  assert.ok(keys.size === 100 && [...keys].every((key) => /^key-[0-9a-f]{32}$/.test(key)));
});
