// For each line of JSON on standard input, SHA-256 of two canonical forms as this engine makes them: names in the
// order of UTF-16 units, written one after the other; and an object built anew in that order.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

function concatenated(value) {
  if (Array.isArray(value)) return `[${value.map(concatenated).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${concatenated(value[key])}`);
  return `{${members.join(",")}}`;
}

function rebuilt(value) {
  if (Array.isArray(value)) return value.map(rebuilt);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, rebuilt(value[key])]));
}

for await (const line of createInterface({ input: process.stdin })) {
  const value = JSON.parse(line);
  process.stdout.write(`${sha256(concatenated(value))} ${sha256(JSON.stringify(rebuilt(value)))}\n`);
}
