// Small changes to JSON, one at a time: every member of every object, every element, every value.

/** Yields `[path, changed]` for each small change of a value; `value` itself stays as it is. */
export function* mutants(value, path = "") {
  for (const [what, other] of others(value)) if (other !== value) yield [`${path} ${what}`, other];
  if (value === null || typeof value !== "object") return;
  for (const name of Object.keys(value)) {
    const where = Array.isArray(value) ? `${path}[${name}]` : `${path}.${name}`;
    yield [`${where} removed`, without(value, name)];
    for (const [deeper, changed] of mutants(value[name], where)) {
      const copy = Array.isArray(value) ? [...value] : { ...value };
      copy[name] = changed;
      yield [deeper, copy];
    }
  }
}

function others(value) {
  if (value === null) return [["not null", "0".repeat(64)], ["a number", 0]];
  if (typeof value === "number") return [["one more", Math.abs(value) > 2 ** 52 ? value * 2 : value + 1], ["a text", String(value)], ["null", null]];
  if (typeof value === "boolean") return [["the other", !value]];
  if (typeof value === "string") {
    const other = value.startsWith("0") ? "1" : "0";
    return [["other beginning", other + value.slice(1)], ["longer", `${value}0`], ["empty", ""], ["null", null], ["a number", 7]];
  }
  if (Array.isArray(value)) return [["longer", [...value, value[0] ?? 0]], ["reversed", [...value].reverse()], ["null", null]].filter(([what]) => what !== "reversed" || value.length > 1);
  return [["one member more", { ...value, zz: 1 }], ["null", null], ["a list", [value]]];
}

function without(value, name) {
  if (Array.isArray(value)) return value.filter((_, at) => String(at) !== name);
  const { [name]: _, ...rest } = value;
  return rest;
}

/** Yields `[path, text]`: the JSON of a value with one member of one of its objects written twice. */
export function* doubled(value, path = "") {
  if (value === null || typeof value !== "object") return;
  const names = Object.keys(value);
  const write = (changed) => (Array.isArray(value)
    ? `[${names.map((name) => changed[name] ?? JSON.stringify(value[name])).join(",")}]`
    : `{${names.map((name) => `${JSON.stringify(name)}:${changed[name] ?? JSON.stringify(value[name])}`).join(",")}}`);
  if (!Array.isArray(value)) {
    for (const name of names) {
      const text = JSON.stringify(value[name]);
      yield [`${path}.${name} twice`, write({ [name]: `${text},${JSON.stringify(name)}:${text}` })];
    }
  }
  for (const name of names) for (const [deeper, text] of doubled(value[name], `${path}.${name}`)) yield [deeper, write({ [name]: text })];
}

/** Yields every text that has one letter of `text` changed. */
export function* letters(text) {
  for (let at = 0; at < text.length; at += 1) {
    const letter = text[at] === "A" ? "B" : text[at] === "0" ? "1" : /[0-9]/.test(text[at]) ? "0" : "A";
    yield [`letter ${at}`, text.slice(0, at) + letter + text.slice(at + 1)];
  }
}
