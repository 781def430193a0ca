// ECDSA verification over a digest that is not hashed again (FIPS 186-5 §6.4.2), which node:crypto does not offer.
// Everything here is public: a key, a digest, a signature. So nothing needs to take the same time.

/** A curve y² = x³ + ax + b over p, its order n and its generator. */
export interface Curve {
  /** The name node:crypto has for it. */
  readonly name: string;
  readonly p: bigint;
  readonly a: bigint;
  readonly n: bigint;
  readonly x: bigint;
  readonly y: bigint;
  /** Bytes of a coordinate. */
  readonly bytes: number;
  /** Whether only the lower of the two values of `s` is taken. */
  readonly lowS: boolean;
}

/** SEC 2 and FIPS 186-5. */
export const CURVES = {
  p256: curve(
    "prime256v1",
    32,
    false,
    0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn,
    -3n,
    0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
    0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296n,
    0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5n,
  ),
  p384: curve(
    "secp384r1",
    48,
    false,
    0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffffn,
    -3n,
    0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
    0xaa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7n,
    0x3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5fn,
  ),
  secp256k1: curve(
    "secp256k1",
    32,
    true,
    0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2fn,
    0n,
    0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n,
    0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798n,
    0x483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8n,
  ),
} as const;

function curve(
  name: string,
  bytes: number,
  lowS: boolean,
  p: bigint,
  a: bigint,
  n: bigint,
  x: bigint,
  y: bigint,
): Curve {
  return { name, bytes, lowS, p, a: modulo(a, p), n, x, y };
}

/** Jacobian coordinates: x = X/Z², y = Y/Z³; the point at infinity has Z = 0. */
type Point = readonly [bigint, bigint, bigint];
const INFINITY: Point = [1n, 1n, 0n];

function modulo(value: bigint, by: bigint): bigint {
  const rest = value % by;
  return rest < 0n ? rest + by : rest;
}

/** The inverse of a value that is coprime to `by`. */
function invert(value: bigint, by: bigint): bigint {
  let [low, high, x, y] = [modulo(value, by), by, 1n, 0n];
  while (low > 1n) {
    const quotient = high / low;
    [low, high, x, y] = [high - quotient * low, low, y - quotient * x, x];
  }
  return modulo(x, by);
}

function double([x, y, z]: Point, { p, a }: Curve): Point {
  if (z === 0n || y === 0n) return INFINITY;
  const square = (y * y) % p;
  const s = (4n * x * square) % p;
  const zz = (z * z) % p;
  const m = (3n * x * x + a * ((zz * zz) % p)) % p;
  const x3 = modulo(m * m - 2n * s, p);
  return [x3, modulo(m * (s - x3) - 8n * square * square, p), (2n * y * z) % p];
}

function add(left: Point, right: Point, on: Curve): Point {
  if (left[2] === 0n) return right;
  if (right[2] === 0n) return left;
  const { p } = on;
  const [z1, z2] = [(left[2] * left[2]) % p, (right[2] * right[2]) % p];
  const [u1, u2] = [(left[0] * z2) % p, (right[0] * z1) % p];
  const [s1, s2] = [(((left[1] * right[2]) % p) * z2) % p, (((right[1] * left[2]) % p) * z1) % p];
  if (u1 === u2) return s1 === s2 ? double(left, on) : INFINITY;
  const h = modulo(u2 - u1, p);
  const r = modulo(s2 - s1, p);
  const hh = (h * h) % p;
  const hhh = (h * hh) % p;
  const v = (u1 * hh) % p;
  const x = modulo(r * r - hhh - 2n * v, p);
  return [x, modulo(r * (v - x) - s1 * hhh, p), (((h * left[2]) % p) * right[2]) % p];
}

/** `first`·generator + `second`·key, both at once. */
function combine(first: bigint, second: bigint, key: Point, on: Curve): Point {
  const generator: Point = [on.x, on.y, 1n];
  const both = add(generator, key, on);
  let sum = INFINITY;
  for (let bit = BigInt(8 * on.bytes); bit >= 0n; bit -= 1n) {
    sum = double(sum, on);
    const [a, b] = [(first >> bit) & 1n, (second >> bit) & 1n];
    if (a === 1n || b === 1n) sum = add(sum, a === b ? both : a === 1n ? generator : key, on);
  }
  return sum;
}

/** One DER INTEGER, positive and minimal, and what follows it. */
function integer(der: Buffer): [bigint, Buffer] | undefined {
  const length = der[1] ?? 0;
  const body = der.subarray(2, 2 + length);
  const padded = body[0] === 0 && length > 1 && (body[1] ?? 0) < 0x80;
  if (der[0] !== 2 || length === 0 || body.length !== length || body[0]! >= 0x80 || padded) return undefined;
  return [BigInt(`0x${body.toString("hex")}`), der.subarray(2 + length)];
}

/** r and s of a strict DER signature; none here is long enough for a length of two bytes. */
function scalars(der: Buffer): [bigint, bigint] | undefined {
  if (der[0] !== 0x30 || der[1] !== der.length - 2 || der[1] >= 0x80) return undefined;
  const r = integer(der.subarray(2));
  const s = r === undefined ? undefined : integer(r[1]);
  return r === undefined || s === undefined || s[1].length > 0 ? undefined : [r[0], s[0]];
}

/** Whether the DER signature is one over `digest` by the key with these coordinates, which are on the curve. */
export function verifyEcdsa(on: Curve, x: bigint, y: bigint, digest: Buffer, signature: Buffer): boolean {
  const { n, p } = on;
  const [r, s] = scalars(signature) ?? [0n, 0n];
  if (digest.length !== on.bytes || r < 1n || r >= n || s < 1n || s >= n || (on.lowS && s > n / 2n)) return false;
  const inverse = invert(s, n);
  const hashed = BigInt(`0x${digest.toString("hex")}`);
  const sum = combine((hashed * inverse) % n, (r * inverse) % n, [x, y, 1n], on);
  if (sum[2] === 0n) return false;
  const back = invert(sum[2], p);
  return ((sum[0] * back * back) % p) % n === r;
}
