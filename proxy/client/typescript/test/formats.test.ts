// The parts below receipts, each against something that is not itself: published vectors, definitions, node:crypto.

import assert from "node:assert/strict";
import {
  constants,
  createHash,
  generateKeyPairSync,
  privateEncrypt,
  publicDecrypt,
  randomBytes,
  sign,
  type KeyObject,
} from "node:crypto";
import test from "node:test";
import { RegistryError } from "../src/errors.js";
import { canonical, parse } from "../src/json.js";
import { isIncluded, leafHash, parseVkey, verifyCheckpoint } from "../src/log.js";
import { idOf } from "../src/leaf.js";
import { SignersRegistry } from "../src/registry.js";
import { readPublicKey, SMALL_ORDER, type PublicKey } from "../src/signatures.js";
import { damages, path, TestLedger, treeHash } from "./ledger.js";

test("canonical JSON has the hashes that others give it", () => {
  const vectors: [string, string][] = [
    [
      '{"b":1,"a":{"z":"last","m":["x",{"c":3,"a":1}]}}',
      "3588b9925fbfd8c10b308c5dcd2bc8cde4d29031baf0a71b18d4ff32a216ac5f",
    ],
    ['{"10":"ten","9":"nine","a":1,"1":"one"}', "d0a7a72c8533ccecbe5df62965f970811058ec8127c287f81f8c8c10ebadf6ec"],
    [
      '{"t":"tab\\tnl\\nq\\"bs\\\\ctl\\u0001\\u007f\\u001f/\\/\\b\\f"}',
      "1b42c631ca70aa5051ccb766ea28ce0239703cc19a6f4434afacd7467f18ba2f",
    ],
    [
      '{"\\ud83d\\ude00":1,"\\ufb33":2,"\\u20ac":3,"\\r":4,"1":5,"\\u0080":6,"\\u00f6":7}',
      "aa64b47304d63a6111b144c048a88f30a28dc700b3217e0889d175cd328b87c0",
    ],
    ['{"__proto__":{"x":1},"a":1}', "16f0a6f5823c7470398e5edfba59dfbde97abf692bcffed62a946ee9587d1271"],
  ];
  for (const [text, hash] of vectors)
    assert.equal(
      createHash("sha256")
        .update(canonical(parse(text)))
        .digest("hex"),
      hash,
      text,
    );
  const numbers = '{"a":1.0,"b":1e2,"c":0.1,"d":1e21,"e":1e-7,"f":-0,"h":5e-324,"i":1.10}';
  assert.equal(canonical(parse(numbers)), '{"a":1,"b":100,"c":0.1,"d":1e+21,"e":1e-7,"f":0,"h":5e-324,"i":1.1}');
});

test("JSON that readers disagree on is refused", () => {
  const texts = [
    '{"a":1,"a":2}',
    '{"a":{"b":1,"\\u0062":2}}',
    '["\\ud800"]',
    '["\\udc00x"]',
    "[9007199254740993]",
    "[1e400]",
    "[01]",
    "[1,]",
    "{",
    "",
    "\ufeff1",
    "[".repeat(70) + "]".repeat(70),
  ];
  for (const text of texts) assert.throws(() => parse(text), SyntaxError, text);
  for (const text of [
    '[{"a":1},{"a":1}]',
    '{"a":{"a":"\\"a\\":1,"}}',
    '["{\\"a\\":1,\\"a\\":2}"]',
    "[-0,1e2,123456789012345680000]",
  ])
    parse(text);
});

test("trees have the roots of RFC 6962, and proofs lead to them only from their own leaf", () => {
  const entries = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
  ].map((hex) => Buffer.from(hex, "hex"));
  assert.equal(
    treeHash(entries.slice(0, 3)).toString("hex"),
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
  );
  assert.equal(treeHash(entries).toString("hex"), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
  const leaves = Array.from({ length: 40 }, (_, at) => Buffer.from(`leaf ${at}`));
  for (let size = 1; size <= leaves.length; size += 1) {
    const some = leaves.slice(0, size);
    const root = treeHash(some);
    for (let index = 0; index < size; index += 1) {
      const [leaf, proof] = [leafHash(some[index]!), path(index, some)];
      assert.ok(isIncluded(leaf, index, size, proof, root), `${index} of ${size}`);
      assert.ok(
        !isIncluded(leaf, index + 1, size, proof, root) && !isIncluded(leaf, index - 1, size, proof, root),
        `${index} of ${size}, elsewhere`,
      );
      assert.ok(!isIncluded(leaf, index, size, [...proof, root], root), `${index} of ${size}, a hash more`);
      if (proof.length > 0)
        assert.ok(!isIncluded(leaf, index, size, proof.slice(1), root), `${index} of ${size}, a hash less`);
      for (let at = 0; at < proof.length; at += 1) {
        assert.ok(
          !isIncluded(
            leaf,
            index,
            size,
            proof.map((hash, place) => (place === at ? root : hash)),
            root,
          ),
          `${index} of ${size}, hash ${at}`,
        );
      }
    }
  }
});

const VKEY = "ledger.example/sign-log/1+060f69c8+ASFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS";
const TEXT = "ledger.example/sign-log/1\n3\nsgbG5Jjy2NPw+6xDsP5UZIjKceiOnsIxHH2iJbNfFYo=\n";
const LINE =
  "\u2014 ledger.example/sign-log/1 Bg9pyNM8D6g+01uj1dWDqKcmgncbev8Pob5TQq/B2Gl7gEj9lvnyZsKi4tey7sUS90e8zrYSzXcYeP7AnlQblfW+wwI=\n";
const OTHER =
  "\u2014 witness.example/w1 IA+xqwAAAABkGFDLg+nBL6ls+tWRIFlwt+d3cKB4Cg/x3l3QpS1L2BcuSU+kMHVdaPVvlJiFMl/bFupciE/f06KiXuMHRHGWaU9iCQ==\n";

test("a published checkpoint verifies, beside lines of others, and no other text does", () => {
  const keys = [parseVkey(VKEY)!];
  const origin = "ledger.example/sign-log/1";
  for (const note of [`${TEXT}\n${LINE}`, `${TEXT}\n${LINE}${OTHER}`, `${TEXT}\n${OTHER}${LINE}`]) {
    const checkpoint = verifyCheckpoint(note, origin, keys);
    assert.ok(typeof checkpoint !== "string" && checkpoint.size === 3, String(checkpoint));
  }
  const damaged = LINE.replace("Bg9pyNM8", "Bg9pyNM9");
  for (const note of [
    TEXT,
    `${TEXT}\n`,
    `${TEXT}\n${OTHER}`,
    `${TEXT}\n${damaged}`,
    `${TEXT}\n${LINE}${LINE}`,
    `${TEXT}\n${LINE}${damaged}`,
    `${TEXT}\n${LINE}nonsense\n`,
    `${TEXT}\n${LINE}`.trimEnd(),
    `${TEXT.replace("3", "4")}\n${LINE}`,
    `${TEXT.replace("\n3\n", "\n\r3\n")}\n${LINE}`,
  ]) {
    assert.equal(typeof verifyCheckpoint(note, origin, keys), "string", note);
  }
  assert.equal(verifyCheckpoint(`${TEXT}\n${LINE}`, "ledger.example/other", keys), "of another ledger");
  for (const vkey of [VKEY.replace("060f69c8", "060f69c9"), VKEY.slice(0, -4), VKEY.replace("+ASFS", "+AiFS"), "x", ""])
    assert.equal(parseVkey(vkey), undefined, vkey);
  assert.ok(parseVkey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"));
});

test("a checkpoint has one spelling", () => {
  const ledger = new TestLedger();
  const { origin, noteKeys } = SignersRegistry.parse(ledger.registry());
  const root = Buffer.alloc(32, 9).toString("base64");
  const verdict = (text: string): unknown => verifyCheckpoint(ledger.note(text), origin, noteKeys);
  assert.equal((verdict(`${origin}\n3\n${root}\n`) as { size: number }).size, 3);
  for (const text of [
    `${origin}\n03\n${root}\n`,
    `${origin}\n+3\n${root}\n`,
    `${origin}\n3\n${root}\nextension\n`,
    `${origin}\n3\n${root.slice(4)}\n`,
    `${origin}\n3\n`,
    `${origin}\n9007199254740993\n${root}\n`,
    "\n",
  ]) {
    assert.equal(verdict(text), "not a checkpoint", text);
  }
});

test("ids name their index", () => {
  assert.equal(idOf("log.example/chancery", 5), "7418f819-4aff-8000-8000-000000000005");
  assert.equal(idOf("log.example/chancery", 2 ** 48 + 7), "7418f819-4aff-8000-8001-000000000007");
});

test("the points of small order are those", () => {
  const p = 2n ** 255n - 19n;
  const power = (base: bigint, exponent: bigint): bigint =>
    exponent === 0n ? 1n : ((half) => (half * half * (exponent & 1n ? base : 1n)) % p)(power(base, exponent >> 1n));
  const d = (-121665n * power(121666n, p - 2n)) % p;
  // Twice a point of order 8 has y 0; with the curve's equation that is 2y² = 1 − dy⁴. The others have y² of 0 or 1.
  for (const y of SMALL_ORDER) assert.ok((y * y) % p < 2n || (2n * y * y - 1n + d * y ** 4n) % p === 0n, String(y));
  assert.equal(SMALL_ORDER.size, 5);
});

function pem(key: KeyObject): string {
  return key.export({ type: "spki", format: "pem" }).toString();
}

function key(algorithm: string, publicKey: KeyObject): PublicKey {
  const read = readPublicKey(algorithm, pem(publicKey));
  assert.ok(typeof read !== "string", `${algorithm}: ${String(read)}`);
  return read;
}

test("ECDSA over a digest agrees with node:crypto over the message", () => {
  for (const [algorithm, namedCurve, hash] of [
    ["ecdsa-p256-sha256", "P-256", "sha256"],
    ["ecdsa-p384-sha384", "P-384", "sha384"],
    ["ecdsa-secp256k1-sha256", "secp256k1", "sha256"],
  ] as const) {
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve });
    const ours = key(algorithm, publicKey);
    const order = {
      "P-256": 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
      "P-384": 0n,
      secp256k1: 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n,
    }[namedCurve];
    let higher = 0;
    for (let round = 0; round < 20; round += 1) {
      const message = randomBytes(40);
      const digest = createHash(hash).update(message).digest();
      const signature = sign(hash, message, privateKey);
      const raw = sign(hash, message, { key: privateKey, dsaEncoding: "ieee-p1363" });
      assert.equal(raw.length, 2 * digest.length);
      const tooHigh = namedCurve === "secp256k1" && scalar(signature) > order / 2n;
      higher += Number(tooHigh);
      assert.equal(ours.verifies(digest, signature), !tooHigh, `${algorithm}, round ${round}`);
      for (const at of [0, 1, 5, signature.length - 1]) {
        const flipped = Buffer.from(signature);
        flipped[at]! ^= 1;
        assert.ok(!ours.verifies(digest, flipped), `${algorithm}, byte ${at}`);
      }
      assert.ok(!ours.verifies(createHash(hash).update("other").digest(), signature));
      for (const other of [Buffer.concat([signature, Buffer.of(0)]), signature.subarray(1), raw, Buffer.alloc(0)])
        assert.ok(!ours.verifies(digest, other));
    }
    assert.ok(namedCurve !== "secp256k1" || higher > 0, "20 signatures with the lower s: one in a million");
  }
});

/** s of a DER signature. */
function scalar(der: Buffer): bigint {
  const s = der.subarray(4 + der[3]! + 2);
  return BigInt(`0x${s.toString("hex")}`);
}

test("ECDSA refuses r and s out of range and other spellings of their numbers", () => {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const ours = key("ecdsa-p256-sha256", publicKey);
  const digest = createHash("sha256").update("m").digest();
  const n = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const number = (value: bigint, padding = ""): Buffer => {
    const hex = value.toString(16).padStart(value.toString(16).length + (value.toString(16).length % 2), "0");
    const body = Buffer.from(padding + (Number.parseInt(hex.slice(0, 2), 16) >= 0x80 ? `00${hex}` : hex), "hex");
    return Buffer.concat([Buffer.of(2, body.length), body]);
  };
  const der = (...parts: Buffer[]): Buffer =>
    Buffer.concat([
      Buffer.of(
        0x30,
        parts.reduce((sum, part) => sum + part.length, 0),
      ),
      ...parts,
    ]);
  const good = sign("sha256", Buffer.from("m"), { key: privateKey, dsaEncoding: "ieee-p1363" });
  const [r, s] = [good.subarray(0, 32), good.subarray(32)].map((half) => BigInt(`0x${half.toString("hex")}`)) as [
    bigint,
    bigint,
  ];
  assert.ok(ours.verifies(digest, der(number(r), number(s))));
  assert.ok(ours.verifies(digest, der(number(r), number(n - s))), "on this curve both are signatures");
  for (const bad of [
    der(number(0n), number(s)),
    der(number(r), number(0n)),
    der(number(r), number(n)),
    der(number(r + n), number(s)),
    der(number(r), number(s + n)),
    der(number(r, "00"), number(s)),
    der(number(r), number(s), number(1n)),
    der(number(r)),
  ]) {
    assert.ok(!ours.verifies(digest, bad), bad.toString("hex"));
  }
});

test("PSS takes its own padding only", () => {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const ours = key("rsa-pss-sha256", publicKey);
  const digest = createHash("sha256").update("m").digest();
  const padded = (saltLength: number): Buffer =>
    sign("sha256", Buffer.from("m"), { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength });
  assert.ok(ours.verifies(digest, padded(32)));
  for (const saltLength of [0, 20, 31, 33]) assert.ok(!ours.verifies(digest, padded(saltLength)), `salt ${saltLength}`);
  const encoded = publicDecrypt({ key: publicKey, padding: constants.RSA_NO_PADDING }, padded(32));
  const again = (at: number, bits: number): Buffer => {
    const other = Buffer.from(encoded);
    other[at]! ^= bits;
    return privateEncrypt({ key: privateKey, padding: constants.RSA_NO_PADDING }, other);
  };
  assert.ok(ours.verifies(digest, again(0, 0)));
  for (const at of [1, 100, 200, 230, 254, 255]) assert.ok(!ours.verifies(digest, again(at, 1)), `byte ${at}`);
  assert.ok(!ours.verifies(digest, again(0, 0).subarray(1)));
});

test("keys that no honest device makes are refused", () => {
  const small = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey;
  const even = generateKeyPairSync("rsa", { modulusLength: 2048, publicExponent: 3 }).publicKey;
  for (const weak of [small, even]) assert.equal(readPublicKey("rsa-sha256", pem(weak)), "bad");
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
  assert.equal(readPublicKey("ecdsa-p256-sha256", pem(publicKey)), "bad");
  assert.equal(readPublicKey("ed25519", pem(publicKey)), "bad");
  assert.equal(readPublicKey("ecdsa-p384-sha384", pem(publicKey).replace(/\n/g, "\r\n")), "bad");
  const identity = Buffer.concat([
    Buffer.from("302a300506032b6570032100", "hex"),
    Buffer.of(1),
    Buffer.alloc(31),
  ]).toString("base64");
  assert.equal(readPublicKey("ed25519", `-----BEGIN PUBLIC KEY-----\n${identity}\n-----END PUBLIC KEY-----\n`), "bad");
});

test("a registry half understood is not trusted", () => {
  const ledger = new TestLedger();
  const good = JSON.parse(ledger.registry()) as Record<string, never>;
  SignersRegistry.parse(JSON.stringify(good));
  // Free text, times for people, and where a key stands may differ; everything else is refused.
  const free =
    /^(?:signers\.\d+\.(?:description|purpose|deployedAt|state|kid|signer_kid|activatedIndex)|signers (?:reversed|shortened|removed)|signers\.\d+ removed|ledger\.vkeys extended)/;
  let refused = 0;
  for (const [what, damaged] of damages(good)) {
    if (free.test(what)) continue;
    // Another algorithm of the same family fits the same key, and a key altered in its numbers may be one.
    if (/^signers\.\d+\.(?:algorithm|public_key_pem) (?:altered|cut|extended)/.test(what)) continue;
    refused += 1;
    assert.throws(() => SignersRegistry.parse(JSON.stringify(damaged)), RegistryError, what);
  }
  assert.ok(refused > 50, `${refused} damages`);
});

test("a registry may have a policy of its ledger's keys, and of no others", () => {
  const file = JSON.parse(new TestLedger().registry()) as { ledger: { vkeys: string[]; policy?: unknown } };
  const [vkey] = file.ledger.vkeys;
  const read = (policy: unknown): SignersRegistry => {
    file.ledger.policy = policy;
    return SignersRegistry.parse(JSON.stringify(file));
  };
  for (const good of [`log ${vkey}\nquorum none\n`, `# ours\n\tlog  ${vkey} https://log.example/\nquorum none\n`])
    assert.ok(read(good).noteKeys.length > 0);
  const others = [`quorum none\n`, `log ${vkey}`, `log x\nquorum none\n`, `log ${vkey}\nlog x\nquorum none\n`];
  for (const bad of [...others, "", null, 7, {}]) assert.throws(() => read(bad), RegistryError, String(bad));
});
