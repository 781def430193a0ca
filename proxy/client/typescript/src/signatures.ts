// Signatures over digests, by every algorithm of the registry that this runtime can verify.
//
// node:crypto hashes what it verifies, and a digest must not be hashed again. So the padding of RSA is checked
// here, on the number that the public key gives back, and ECDSA's arithmetic is in ecdsa.ts.

import { constants, createHash, createPublicKey, publicDecrypt, verify, type KeyObject } from "node:crypto";
import { CURVES, verifyEcdsa, type Curve } from "./ecdsa.js";

/** An Ed25519 key that passed {@link ed25519Key} and no other way. */
export type Ed25519Key = KeyObject & { readonly __ed25519: never };

/** A public key together with what it does to a digest. */
export interface PublicKey {
  /** Whether `signature` is one over `digest`, which is not hashed again. */
  verifies(digest: Buffer, signature: Buffer): boolean;
}

interface Algorithm {
  /** The type node:crypto gives such a key. */
  readonly type: string;
  /** The only digest taken; `undefined` if any is. */
  readonly digest?: Hash;
  readonly curve?: Curve;
  readonly pss?: boolean;
}

type Hash = "sha256" | "sha384" | "sha512";
/** Digest lengths in bytes. */
export const DIGEST_BYTES: Readonly<Record<string, number>> = { sha256: 32, sha384: 48, sha512: 64 };
/** DigestInfo before the digest (RFC 8017 §9.2, note 1). */
const DIGEST_INFO: Record<Hash, string> = {
  sha256: "3031300d060960864801650304020105000420",
  sha384: "3041300d060960864801650304020205000430",
  sha512: "3051300d060960864801650304020305000440",
};

const ALGORITHMS: Readonly<Record<string, Algorithm>> = {
  ed25519: { type: "ed25519" },
  // node:crypto has no Ed25519ph; such keys can be registered, their signatures not verified here.
  ed25519ph: { type: "none", digest: "sha512" },
  "ecdsa-p256-sha256": { type: "ec", digest: "sha256", curve: CURVES.p256 },
  "ecdsa-p384-sha384": { type: "ec", digest: "sha384", curve: CURVES.p384 },
  "ecdsa-secp256k1-sha256": { type: "ec", digest: "sha256", curve: CURVES.secp256k1 },
  "rsa-sha256": { type: "rsa", digest: "sha256" },
  "rsa-sha384": { type: "rsa", digest: "sha384" },
  "rsa-sha512": { type: "rsa", digest: "sha512" },
  "rsa-pss-sha256": { type: "rsa", digest: "sha256", pss: true },
  "rsa-pss-sha384": { type: "rsa", digest: "sha384", pss: true },
  "rsa-pss-sha512": { type: "rsa", digest: "sha512", pss: true },
  // Known to newer runtimes only.
  "ml-dsa-44": { type: "ml-dsa-44" },
  "ml-dsa-65": { type: "ml-dsa-65" },
};

/** Whether the registry may name this algorithm. */
export function isAlgorithm(name: string): boolean {
  return Object.hasOwn(ALGORITHMS, name) || isMac(name);
}

/** Whether it is a MAC, which outsiders cannot verify. */
export function isMac(name: string): boolean {
  return /^hmac-sha(?:256|384|512)$/.test(name);
}

/** Whether a key of this algorithm takes digests of this kind. */
export function takes(name: string, digestAlgorithm: string): boolean {
  const only = isMac(name) ? "sha256" : ALGORITHMS[name]?.digest;
  return Object.hasOwn(DIGEST_BYTES, digestAlgorithm) && (only === undefined || only === digestAlgorithm);
}

/**
 * Reads SPKI PEM in its one spelling. `"bad"` if it is not a key for this algorithm or a weak one; `"unsupported"`
 * if this runtime does not know the algorithm.
 */
export function readPublicKey(name: string, pem: string): PublicKey | "bad" | "unsupported" {
  const algorithm = ALGORITHMS[name];
  if (algorithm === undefined) return "bad";
  let key: KeyObject;
  try {
    key = createPublicKey(pem);
  } catch {
    return algorithm.type.startsWith("ml-dsa") ? "unsupported" : "bad";
  }
  if (key.export({ type: "spki", format: "pem" }).toString().trim() !== pem.trim()) return "bad";
  if (algorithm.type === "none") return key.asymmetricKeyType === "ed25519" ? "unsupported" : "bad";
  // A runtime that knows the encoding, from its OpenSSL, and not the algorithm, gives such a key no type.
  if (key.asymmetricKeyType === undefined && algorithm.type.startsWith("ml-dsa")) return "unsupported";
  if (key.asymmetricKeyType !== algorithm.type) return "bad";
  if (algorithm.type === "rsa") return rsaKey(key, algorithm);
  if (algorithm.curve !== undefined) return ecdsaKey(key, algorithm.curve);
  if (algorithm.type === "ed25519") {
    const strong = ed25519Key(key.export({ type: "spki", format: "der" }).subarray(-32));
    return strong === undefined ? "bad" : { verifies: (digest, signature) => verifyEd25519(strong, digest, signature) };
  }
  return { verifies: (digest, signature) => verify(null, digest, key, signature) };
}

/** Lengths of ML-DSA-44 (FIPS 204), in bytes. */
const ML_DSA_44_KEY_BYTES = 1312;
export const ML_DSA_44_SIGNATURE_BYTES = 2420;
/** What stands before such a key in its SPKI. */
const ML_DSA_44_SPKI = Buffer.from("30820532300b06096086480165030403110382052100", "hex");

/**
 * An ML-DSA-44 key from its bytes, pure and without context; `undefined` if they are none, `"unsupported"` if this
 * runtime does not know the algorithm.
 */
export function mlDsa44Key(raw: Uint8Array): PublicKey | "unsupported" | undefined {
  if (raw.length !== ML_DSA_44_KEY_BYTES) return undefined;
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.concat([ML_DSA_44_SPKI, raw]), format: "der", type: "spki" });
  } catch {
    return "unsupported";
  }
  if (String(key.asymmetricKeyType) !== "ml-dsa-44") return "unsupported";
  return { verifies: (message, signature) => verify(null, message, key, signature) };
}

function ecdsaKey(key: KeyObject, curve: Curve): PublicKey | "bad" {
  if (key.asymmetricKeyDetails?.namedCurve !== curve.name) return "bad";
  const { x, y } = key.export({ format: "jwk" });
  const point = [x ?? "", y ?? ""].map((text) => BigInt(`0x0${Buffer.from(text, "base64url").toString("hex")}`));
  return { verifies: (digest, signature) => verifyEcdsa(curve, point[0]!, point[1]!, digest, signature) };
}

function rsaKey(key: KeyObject, { digest, pss }: Algorithm): PublicKey | "bad" {
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  const weak = modulusLength < 2048 || publicExponent < 65537n || publicExponent % 2n === 0n;
  if (weak || modulusLength > 4096 || digest === undefined) return "bad";
  const bytes = Math.ceil(modulusLength / 8);
  const padding = pss === true ? constants.RSA_NO_PADDING : constants.RSA_PKCS1_PADDING;
  const verifies = (hashed: Buffer, signature: Buffer): boolean => {
    if (signature.length !== bytes || hashed.length !== DIGEST_BYTES[digest]) return false;
    let opened: Buffer;
    try {
      opened = publicDecrypt({ key, padding }, signature);
    } catch {
      return false;
    }
    if (pss === true) return isPss(opened, modulusLength - 1, digest, hashed);
    return opened.equals(Buffer.concat([Buffer.from(DIGEST_INFO[digest], "hex"), hashed]));
  };
  return { verifies };
}

/** EMSA-PSS-VERIFY (RFC 8017 §9.1.2), MGF1 with the same hash, salt as long as the digest. */
function isPss(opened: Buffer, bits: number, hash: Hash, digest: Buffer): boolean {
  const length = Math.ceil(bits / 8);
  const encoded = opened.subarray(opened.length - length);
  const size = digest.length;
  const split = length - size - 1;
  if (opened.subarray(0, opened.length - length).some((byte) => byte !== 0)) return false;
  if (encoded.at(-1) !== 0xbc || split < size + 1) return false;
  const seed = encoded.subarray(split, split + size);
  const block = Buffer.alloc(split);
  for (let at = 0, counter = Buffer.alloc(4); at < split; at += size) {
    counter.writeUInt32BE(at / size);
    createHash(hash).update(seed).update(counter).digest().copy(block, at);
  }
  for (let at = 0; at < split; at += 1) block[at]! ^= encoded[at]!;
  const unused = 8 * length - bits;
  if (encoded[0]! >> (8 - unused) !== 0) return false;
  block[0]! &= 0xff >> unused;
  const salt = block.subarray(split - size);
  const zeros = block.subarray(0, split - size - 1);
  const expected = createHash(hash).update(Buffer.alloc(8)).update(digest).update(salt).digest();
  return zeros.every((byte) => byte === 0) && block[split - size - 1] === 1 && expected.equals(seed);
}

const FIELD = 2n ** 255n - 19n;
/** The y of every point whose order divides 8. */
export const SMALL_ORDER: ReadonlySet<bigint> = new Set([
  0n,
  1n,
  FIELD - 1n,
  0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7n,
  0x05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n,
]);

/** Whether 32 bytes are the one encoding of a y, and not of a point of small order. */
function isStrong(bytes: Uint8Array): boolean {
  const y = BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`) & (2n ** 255n - 1n);
  return y < FIELD && !SMALL_ORDER.has(y);
}

/** An Ed25519 key from its 32 bytes; `undefined` if no honest device makes such a one. */
export function ed25519Key(raw: Uint8Array): Ed25519Key | undefined {
  if (raw.length !== 32 || !isStrong(raw)) return undefined;
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), raw]);
  try {
    return createPublicKey({ key: der, format: "der", type: "spki" }) as Ed25519Key;
  } catch {
    return undefined;
  }
}

/** RFC 8032, without points of small order. */
export function verifyEd25519(key: Ed25519Key, message: Uint8Array, signature: Uint8Array): boolean {
  return signature.length === 64 && isStrong(signature.subarray(0, 32)) && verify(null, message, key, signature);
}
