// AWS KMS by @aws-sdk/client-kms, unmodified: signs with every key it is given, verifies, and is refused.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Agent } from 'node:https'
import {
  DescribeKeyCommand, GenerateMacCommand, GetPublicKeyCommand, KMSClient, SignCommand, VerifyCommand, VerifyMacCommand,
} from '@aws-sdk/client-kms'
import { NodeHttpHandler } from '@smithy/node-http-handler'

const { KMS_URL, KMS_CERT, KMS_KEY, KMS_CA } = process.env
const file = (path) => readFileSync(path)
const handler = KMS_CERT && new NodeHttpHandler({
  httpsAgent: new Agent({ cert: file(KMS_CERT), key: file(KMS_KEY), ca: file(KMS_CA), keepAlive: true }),
})
const attempts = process.env.KMS_ATTEMPTS && Number(process.env.KMS_ATTEMPTS)
const kms = new KMSClient({
  endpoint: KMS_URL, region: 'eu-central-1', ...(handler && { requestHandler: handler }),
  ...(attempts && { maxAttempts: attempts }),
})
const say = (told) => console.log(JSON.stringify(told))
const b64 = (bytes) => Buffer.from(bytes).toString('base64')

async function refused(name, command) {
  try {
    await kms.send(command)
  } catch (error) {
    if (error.name !== name) throw new Error(`${error.name} in place of ${name}: ${error.message}`)
    return say({ refused: name })
  }
  throw new Error(`not refused with ${name}`)
}

const plain = () => new SignCommand({ KeyId: 'alias/p256', Message: Buffer.from('m'), SigningAlgorithm: 'ECDSA_SHA_256' })
if (attempts) {
  // Asked for as fast as it goes: with one attempt a throttle is told, with more the SDK waits and gets through.
  let [told, made] = [null, 0]
  for (let turn = 0; turn < 4 && told === null; turn++) {
    try {
      made += (await kms.send(plain())).$metadata.attempts
    } catch (error) {
      told = error.name
      made += error.$metadata.attempts
    }
  }
  say({ told, attempts: made })
  process.exit(0)
}
if (process.env.KMS_EXPECT) {
  await refused(process.env.KMS_EXPECT, plain())
  process.exit(0)
}
if (process.env.KMS_ONCE) {
  const { Signature, $metadata } = await kms.send(plain())
  say({ signature: b64(Signature), retries: $metadata.attempts - 1 })
  process.exit(0)
}
for (const key of process.argv.slice(2)) {
  const { KeyMetadata: described } = await kms.send(new DescribeKeyCommand({ KeyId: `alias/${key}` }))
  const SigningAlgorithm = described.SigningAlgorithms[0]
  const KeyId = described.Arn
  const { PublicKey } = await kms.send(new GetPublicKeyCommand({ KeyId }))
  const message = Buffer.from(`a message for ${key}`)
  const kinds = { RAW: message }
  const bits = SigningAlgorithm.match(/SHA_(\d+)$/)?.[1]
  if (/^(ECDSA|RSASSA)/.test(SigningAlgorithm)) kinds.DIGEST = createHash(`sha${bits}`).update(message).digest()
  if (SigningAlgorithm === 'ML_DSA_SHAKE_256') {
    const raw = PublicKey.slice(described.KeySpec === 'ML_DSA_65' ? -1952 : -1312)
    const shake = (...parts) => createHash('shake256', { outputLength: 64 }).update(Buffer.concat(parts)).digest()
    kinds.EXTERNAL_MU = shake(shake(raw), Buffer.alloc(2), message)
  }
  for (const [MessageType, Message] of Object.entries(kinds)) {
    let headers
    const command = new SignCommand({ KeyId, Message, MessageType, SigningAlgorithm })
    command.middlewareStack.add((next) => async (args) => {
      const reply = await next(args)
      headers = reply.response.headers
      return reply
    }, { step: 'deserialize', priority: 'low' })
    const { Signature } = await kms.send(command)
    const told = { KeyId, Message, MessageType, SigningAlgorithm, Signature }
    if ((await kms.send(new VerifyCommand(told))).SignatureValid !== true) throw new Error(`${key} does not verify`)
    await refused('KMSInvalidSignatureException', new VerifyCommand({ ...told, Message: Message.map((byte) => byte ^ 1) }))
    say({
      key, algorithm: SigningAlgorithm, kind: MessageType, message: b64(Message), signature: b64(Signature),
      public: b64(PublicKey), index: Number(headers['x-chancery-receipt-index']), id: headers['x-amzn-requestid'],
    })
  }
}
const some = { KeyId: 'alias/p256', Message: Buffer.from('m'), SigningAlgorithm: 'ECDSA_SHA_256' }
await refused('NotFoundException', new SignCommand({ ...some, KeyId: 'alias/absent' }))
await refused('InvalidKeyUsageException', new SignCommand({ ...some, KeyId: 'alias/mac' }))
await refused('ValidationException', new SignCommand({ ...some, MessageType: 'DIGEST' }))
await refused('DryRunOperationException', new SignCommand({ ...some, DryRun: true }))
const mac = { KeyId: 'alias/mac', Message: Buffer.from('a message'), MacAlgorithm: 'HMAC_SHA_256' }
const { Mac } = await kms.send(new GenerateMacCommand(mac))
if ((await kms.send(new VerifyMacCommand({ ...mac, Mac }))).MacValid !== true) throw new Error('the MAC does not verify')
await refused('KMSInvalidMacException', new VerifyMacCommand({ ...mac, Mac: Buffer.alloc(32) }))
say({ done: true })
