// What this package offers.

export * from "./api.js";
export { ChanceryClient, PendingError, type CallOptions, type Proven } from "./client.js";
export * from "./errors.js";
export { type Json, type JsonObject } from "./json.js";
export { type Options } from "./options.js";
export { verifyReceipt, type Asked, type Proof, type VerifyOptions } from "./receipt.js";
export { SignersRegistry, type Signer } from "./registry.js";
export { randomIdempotencyKey } from "./transport.js";
