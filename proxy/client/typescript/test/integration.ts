// The whole package against a running service. Prints a line for each check; exit code 1 if one failed.
//
// CHANCERY_URL, CHANCERY_CA, CHANCERY_CERT, CHANCERY_KEY, CHANCERY_SIGNERS (files) and CHANCERY_KID name the service,
// us, the registry and a key that we may use. CHANCERY_MORE_KIDS (with commas), CHANCERY_ANCHOR_KID, CHANCERY_MAC_KID,
// CHANCERY_CO_SIGNED_KID and CHANCERY_CHAIN (a stream) add checks. The principal may sign, make MACs, append events, and read its own stream.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import {
  ChanceryClient,
  DeadlineError,
  ReceiptError,
  RefusedError,
  SignersRegistry,
  TlsError,
  UnavailableError,
  verifyReceipt,
  type ChanceryError,
  type JsonObject,
  type Options,
  type Proven,
  type SignRequest,
} from "../src/index.js";
import { CuttingProxy } from "./cutting_proxy.js";

function variable(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === "") throw new Error(`${name} is not set`);
  return value;
}

const options: Options = {
  url: variable("CHANCERY_URL"),
  caFile: variable("CHANCERY_CA"),
  certificateFile: variable("CHANCERY_CERT"),
  keyFile: variable("CHANCERY_KEY"),
};
const registry = SignersRegistry.fromFile(variable("CHANCERY_SIGNERS"));
const kid = variable("CHANCERY_KID");
const kids = [kid, ...(process.env["CHANCERY_MORE_KIDS"] ?? "").split(",").filter((name) => name !== "")];
const anchorKid = process.env["CHANCERY_ANCHOR_KID"];
const macKid = process.env["CHANCERY_MAC_KID"];
const coSignedKid = process.env["CHANCERY_CO_SIGNED_KID"];
const client = new ChanceryClient(options);
const service = new URL(options.url);

/** A digest nobody signed before, as the key's algorithm takes it. */
function request(name: string, more: Partial<SignRequest> = {}): SignRequest {
  const algorithm = [...registry.signers.values()].find((signer) => signer.kid === name)?.algorithm ?? "";
  const digestAlgorithm = (/sha(?:256|384|512)$/.exec(algorithm)?.[0] ?? "sha256") as "sha256";
  return {
    kid: name,
    digest: createHash(digestAlgorithm).update(randomBytes(32)).digest("hex"),
    digestAlgorithm,
    ...more,
  };
}

async function thrown<E extends ChanceryError>(
  by: Promise<unknown>,
  type: abstract new (...values: never[]) => E,
): Promise<E> {
  const error = await by.then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(error instanceof type, `not a ${type.name}: ${String(error)}`);
  return error;
}

/** How many entries of the stream hold this text. */
async function entriesWith(stream: string, text: string): Promise<number> {
  let count = 0;
  for (let from: number | null = 0; from !== null;) {
    const { value }: Awaited<ReturnType<ChanceryClient["stream"]>> = await client.stream(stream, from);
    count += value.items.filter((item) => JSON.stringify(item.payload).includes(text)).length;
    from = value.next;
  }
  return count;
}

function refusesDamage({ receipt }: Proven, asked: { sign: SignRequest }): void {
  const document = JSON.parse(receipt) as {
    index: number;
    event: { payload: { digest: string } };
    inclusionProof: string[];
    checkpoint: string;
  };
  const damaged = [
    { ...document, index: document.index - 1 },
    { ...document, inclusionProof: document.inclusionProof.slice(1) },
    { ...document, checkpoint: document.checkpoint.replace(/\n\d+\n/, "\n99999\n") },
    { ...document, event: { ...document.event, payload: { ...document.event.payload, digest: "00".repeat(32) } } },
  ];
  for (const one of damaged) assert.throws(() => verifyReceipt(JSON.stringify(one), registry, asked), ReceiptError);
  assert.throws(
    () => verifyReceipt(receipt, registry, { sign: { ...asked.sign, digest: "00".repeat(32) } }),
    ReceiptError,
  );
  assert.throws(() => verifyReceipt(receipt, registry, { sign: { ...asked.sign, kid: "another" } }), ReceiptError);
}

const checks: [string, () => Promise<void>][] = [
  [
    "health needs no certificate",
    async () => {
      const { certificateFile: _, keyFile: __, ...open } = options;
      const nobody = new ChanceryClient(open);
      await nobody.health();
      const error = await thrown(nobody.sign(request(kid)), RefusedError);
      assert.deepEqual([error.status, error.code, error.retryable], [401, "client-certificate-required", false]);
      assert.ok(error.requestId !== undefined && error.idempotencyKey !== undefined);
      nobody.close();
    },
  ],
  ...kids.map((name): [string, () => Promise<void>] => [
    `${name} signs, and its receipt proves it here`,
    async () => {
      const asked = { sign: request(name, { purpose: "test", metadata: { order: 17, é: [1.5, null] } }) };
      const { value } = await client.sign(asked.sign);
      const proven = await client.prove(asked, value, registry);
      assert.equal(proven.proof.signature, value.signature);
      assert.ok(proven.proof.signers.includes(value.signer_kid));
      refusesDamage(proven, asked);
      const { digest, ...other } = asked.sign;
      const verdict = await client.verify({ ...asked.sign, signature: value.signature! });
      const wrong = await client.verify({ ...other, digest: request(name).digest, signature: value.signature! });
      assert.deepEqual([verdict.value.valid, wrong.value.valid, digest === value.digest], [true, false, true]);
    },
  ]),
  [
    "a batch has a signature or a problem for each",
    async () => {
      const requests = [request(kid), request("nobody-s-key"), request(kid)];
      const { value } = await client.signBatch(requests);
      assert.deepEqual(
        value.map((item) => item.ok),
        [true, false, true],
      );
      const refusal = value[1];
      assert.ok(refusal?.ok === false && [403, 404].includes(refusal.problem.status));
      for (const at of [0, 2]) {
        const item = value[at]!;
        assert.ok(item.ok);
        await client.prove({ sign: requests[at]! }, item.value, registry);
      }
    },
  ],
  [
    "an event is appended and proven",
    async () => {
      const event = {
        eventType: "order.paid",
        payload: { order: randomBytes(8).toString("hex"), total: 12.5 },
        metadata: { a: 1 },
      };
      const { value } = await client.append(event);
      const { proof } = await client.prove({ event }, value, registry);
      assert.equal(proof.event["hash"], value.hash);
      await thrown(client.prove({ event: { ...event, payload: { order: "another" } } }, value, registry), ReceiptError);
      const read = await client.event(value.id);
      assert.equal(read.value.hash, value.hash);
    },
  ],
  [
    "a batch of events is appended in order",
    async () => {
      const events = [1, 2, 3].map((order) => ({ eventType: "order.paid", payload: { order } }));
      const { value } = await client.appendBatch([...events, { eventType: "signer.activated", payload: {} }]);
      assert.deepEqual(
        value.map((item) => item.ok),
        [true, true, true, false],
      );
      const hashes = value.map((item) => (item.ok ? [item.value.prevHash, item.value.hash] : []));
      assert.equal(hashes[1]?.[0], hashes[0]?.[1]);
    },
  ],
  [
    "a repeated call gets the same bytes, another under its key a typed refusal",
    async () => {
      const [sign, idempotencyKey] = [request(kid), `again-${randomBytes(8).toString("hex")}`];
      const first = await client.sign(sign, { idempotencyKey });
      assert.equal((await client.sign(sign, { idempotencyKey })).body, first.body);
      const error = await thrown(client.sign(request(kid), { idempotencyKey }), RefusedError);
      assert.deepEqual([error.status, error.code, error.idempotencyKey], [409, "idempotency-conflict", idempotencyKey]);
    },
  ],
  [
    "a key that is not ours is a typed refusal",
    async () => {
      const error = await thrown(client.sign(request("nobody-s-key")), RefusedError);
      assert.ok(
        [403, 404].includes(error.status) && ["unknown-kid", "kid-not-granted"].includes(error.code),
        error.message,
      );
    },
  ],
  [
    "after a lost reply the same bytes come back, and there is one entry",
    async () => {
      const proxy = await CuttingProxy.start(service.hostname, Number(service.port));
      const through = new ChanceryClient({ ...options, url: `https://${service.hostname}:${proxy.port}` });
      await through.health();
      await through.health();
      assert.equal(
        proxy.accepted,
        1,
        "the connection was reused, or a lost reply would not be one of a request that got through",
      );
      const [sign, idempotencyKey] = [request(kid), `lost-${randomBytes(8).toString("hex")}`];
      proxy.loseNextReply();
      const answer = await through.sign(sign, { idempotencyKey });
      assert.equal(proxy.cuts, 1, "the proxy cut once");
      assert.equal((await client.sign(sign, { idempotencyKey })).body, answer.body);
      const { proof } = await client.prove({ sign }, answer.value, registry);
      assert.equal(await entriesWith(String(proof.event["stream"]), sign.digest), 1);
      const event = { eventType: "order.paid", payload: { order: randomBytes(8).toString("hex") } };
      proxy.loseNextReply();
      const appended = await through.append(event);
      assert.equal(proxy.cuts, 2);
      assert.equal(await entriesWith(appended.value.stream, event.payload.order), 1);
      through.close();
      const fresh = new ChanceryClient({ ...options, url: `https://${service.hostname}:${proxy.port}` });
      proxy.dropNextConnection();
      await fresh.sign(request(kid));
      assert.equal(proxy.cuts, 3, "a connection that did not come about is tried again");
      fresh.close();
      proxy.stop();
    },
  ],
  [
    "many calls at once share connections",
    async () => {
      const proxy = await CuttingProxy.start(service.hostname, Number(service.port));
      const through = new ChanceryClient({ ...options, url: `https://${service.hostname}:${proxy.port}` });
      const warnings: string[] = [];
      process.on("warning", (warning) => warnings.push(warning.message));
      for (let round = 0; round < 2; round += 1) {
        const requests = Array.from({ length: 150 }, () => request(kid));
        const answers = await Promise.all(requests.map((one) => through.sign(one)));
        assert.deepEqual(
          answers.map(({ value }) => value.digest),
          requests.map(({ digest }) => digest),
        );
      }
      assert.ok(proxy.accepted <= 64, `${proxy.accepted} connections for 300 calls`);
      assert.deepEqual(warnings, []);
      const before = proxy.accepted;
      proxy.cutAll();
      await through.sign(request(kid));
      assert.equal(proxy.accepted, before + 1, "after a restart one new connection is enough");
      through.close();
      proxy.stop();
    },
  ],
  [
    "a service that says nothing is given up at the deadline",
    async () => {
      const proxy = await CuttingProxy.start(service.hostname, Number(service.port));
      const through = new ChanceryClient({
        ...options,
        url: `https://${service.hostname}:${proxy.port}`,
        callTimeoutMs: 300,
      });
      await through.health();
      proxy.hang();
      const error = await thrown(through.sign(request(kid)), DeadlineError);
      assert.ok(error.retryable && error.idempotencyKey !== undefined);
      through.close();
      proxy.stop();
    },
  ],
  [
    "nobody listening and a foreign authority are told apart",
    async () => {
      const proxy = await CuttingProxy.start(service.hostname, Number(service.port));
      const { port } = proxy;
      proxy.stop();
      const nobody = await thrown(
        new ChanceryClient({ ...options, url: `https://127.0.0.1:${port}`, attemptsMax: 2 }).health(),
        UnavailableError,
      );
      assert.ok(nobody.retryable);
      const foreign = await thrown(
        new ChanceryClient({ ...options, caFile: variable("CHANCERY_CERT") }).health(),
        TlsError,
      );
      assert.ok(!foreign.retryable);
    },
  ],
];
if (anchorKid !== undefined) {
  checks.push([
    "an anchored digest's receipt is its signature",
    async () => {
      const sign = request(anchorKid, { mode: "anchored" });
      const { value } = await client.sign(sign);
      const { proof } = await client.prove({ sign }, value, registry);
      assert.deepEqual([proof.anchored, value.signature], [true, undefined]);
    },
  ]);
}
if (macKid !== undefined) {
  checks.push([
    "a MAC is made, checked and recorded",
    async () => {
      const mac = { kid: macKid, message: randomBytes(20) };
      const { value } = await client.mac(mac);
      const { proof } = await client.prove({ mac }, value, registry);
      assert.equal(proof.signature, value.mac);
      assert.deepEqual(
        [
          await client.verifyMac({ ...mac, mac: value.mac }),
          await client.verifyMac({ ...mac, message: randomBytes(20), mac: value.mac }),
        ],
        [true, false],
      );
    },
  ]);
}
if (coSignedKid !== undefined) {
  checks.push([
    "a co-signature verifies, or is told to be beyond this runtime",
    async () => {
      const sign = request(coSignedKid);
      const { value } = await client.sign(sign);
      const { proof } = await client.prove({ sign }, value, registry, { unsupportedCoSigner: "report" });
      assert.deepEqual([...proof.signers, ...proof.unverified], [value.signer_kid, value.coSigner?.signer_kid]);
      const strict = client.prove({ sign }, value, registry);
      if (proof.unverified.length === 0) await strict;
      else assert.equal((await thrown(strict, ReceiptError)).fault, "unsupported");
    },
  ]);
}

const chain = process.env["CHANCERY_CHAIN"];
if (chain !== undefined) {
  checks.push([
    "an event of a chain has its row, and is proven",
    async () => {
      const event = { eventType: "order.paid", payload: { 10: "ten", 9: "nine" }, stream: chain };
      const { value } = await client.append(event);
      const { proof } = await client.prove({ event }, value, registry);
      assert.equal((proof.event["chain"] as JsonObject)["hash"], value.row?.["hash"]);
    },
  ]);
}

let failures = 0;
for (const [name, check] of checks) {
  try {
    await check();
    console.log(`ok: ${name}`);
  } catch (error) {
    failures += 1;
    console.log(`failed: ${name}: ${error instanceof Error ? error.stack : String(error)}`);
  }
}
client.close();
console.log(`${checks.length - failures} passed, ${failures} failed`);
process.exit(failures === 0 ? 0 : 1);
