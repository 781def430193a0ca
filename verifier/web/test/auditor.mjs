// The auditor's program, chancery-verify, asked about the same evidence: what it says by its exit code must be what the
// page says. Without a program given, nobody is asked and the page's word is held against the tests' alone.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** At most this many at once: the browser wants a processor too. */
const AT_ONCE = 2;
const VERDICTS = new Map([[0, ["valid", "valid-in-part"]], [1, ["not-valid"]], [2, ["cannot-decide"]], [3, ["cannot-decide"]]]);

export class Auditor {
  constructor(program) {
    this.program = program;
    this.folder = program && mkdtempSync(join(tmpdir(), "page-auditor-"));
    this.asked = 0;
  }

  /** The verdicts that agree with the program's, and what it printed; nothing if there is none. */
  async says({ receipt, registry, policy, file }) {
    const number = (this.asked += 1), names = { receipt, "--signers": registry, "--policy": policy, "--message": file }, args = ["evidence"];
    const written = Object.entries(names).filter(([, body]) => body !== undefined).map(([option, body]) => {
      const path = join(this.folder, `${number}${option}`);
      writeFileSync(path, body);
      args.push(...(option === "receipt" ? [path] : [option, path]));
      return path;
    });
    const answer = await new Promise((resolve) => execFile(this.program, args, (error, stdout, stderr) => resolve({ code: error ? error.code : 0, words: stdout + stderr })));
    written.forEach((path) => rmSync(path));
    return { verdicts: VERDICTS.get(answer.code) ?? [], words: answer.words.trim() };
  }

  /** Of `[name, given, verdict]`, those of which the program says something else. */
  async disagrees(asked) {
    if (!this.program) return [];
    const left = [...asked], wrong = [];
    const work = async () => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const [name, given, verdict] = next, { verdicts, words } = await this.says(given);
        if (!verdicts.includes(verdict)) wrong.push({ name, page: verdict, auditor: words.slice(-600) });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return wrong;
  }

  close() {
    if (this.folder) rmSync(this.folder, { recursive: true, force: true });
  }
}
