// For each line of JSON on standard input, SHA-256 of two canonical forms as this engine makes them: names in the
// order of UTF-16 units, written one after the other; and an object built anew in that order.
import { createHash } from "node:crypto";
import { createInterface } from "node:readline";
import { concatenated, rebuilt } from "./canonical.mjs";

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

for await (const line of createInterface({ input: process.stdin })) {
  const value = JSON.parse(line);
  process.stdout.write(`${sha256(concatenated(value))} ${sha256(JSON.stringify(rebuilt(value)))}\n`);
}
