// JSON as all readers agree on it: read strictly, written canonically (RFC 8785).

/** Any JSON value. */
export type Json = null | boolean | number | string | Json[] | JsonObject;
/** A JSON object. */
export interface JsonObject {
  [name: string]: Json;
}

/** Deepest nesting read; bounds recursion. A payload may be 64 deep, inside an event inside a receipt. */
const DEPTH_MAX = 67;
/** What valid JSON is made of, but for white space, commas and words. */
const TOKENS = /"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|[[\]{}:]/g;

/**
 * Reads JSON text. Throws `SyntaxError` for what is not JSON and for what readers disagree on: a name twice in
 * one object, half a surrogate pair, a number that a double does not hold exactly, deep nesting.
 */
export function parse(text: string): Json {
  const value = JSON.parse(text) as Json;
  const open: (Set<string> | undefined)[] = [];
  let last = "";
  for (const [token] of text.matchAll(TOKENS)) {
    if (token === "{" || token === "[") {
      open.push(token === "{" ? new Set() : undefined);
      if (open.length > DEPTH_MAX) throw new SyntaxError("nested too deeply");
    } else if (token === "}" || token === "]") {
      open.pop();
    } else if (token === ":") {
      const names = open.at(-1);
      if (names?.has(last)) throw new SyntaxError(`the name ${JSON.stringify(last)} occurs twice`);
      names?.add(last);
    } else if (token.startsWith('"')) {
      last = JSON.parse(token) as string;
      if (/\p{Surrogate}/u.test(last)) throw new SyntaxError("half a surrogate pair");
    } else if (!isExact(token)) {
      throw new SyntaxError(`${token} is outside the numbers every reader agrees on`);
    }
  }
  return value;
}

function isExact(literal: string): boolean {
  const value = Number(literal);
  return Number.isFinite(value) && (/[.eE]/.test(literal) || literal === "-0" || String(value) === literal);
}

/** The one canonical text of a value that {@link parse} gave. */
export function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  // The default order of strings is by UTF-16 code units, as the standard wants.
  const members = Object.keys(value)
    .sort()
    .map((name) => `${JSON.stringify(name)}:${canonical(value[name] as Json)}`);
  return `{${members.join(",")}}`;
}

/** Whether a value is an object: neither `null` nor an array. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The bytes of standard base64 with padding, or `undefined` for any other spelling. */
export function fromBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : undefined;
}

/** The bytes of lower-case hex, or `undefined`. */
export function fromHex(text: string): Buffer | undefined {
  return /^(?:[0-9a-f]{2})*$/.test(text) ? Buffer.from(text, "hex") : undefined;
}
