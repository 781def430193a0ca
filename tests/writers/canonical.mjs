// The two canonical forms of the platform's JavaScript, in a few lines of their own.

// Keys in the order of UTF-16 units, written one after the other.
export function concatenated(value) {
  if (Array.isArray(value)) return `[${value.map(concatenated).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${concatenated(value[key])}`);
  return `{${members.join(",")}}`;
}

// An object built anew in that order: the engine then puts array indices first.
export function rebuilt(value) {
  if (Array.isArray(value)) return value.map(rebuilt);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, rebuilt(value[key])]));
}
