// A real OpenID provider for tests, on loopback: `node server.mjs PORT`.
//
// Two public clients, `chancery-cli` and `other-cli`, with the device flow and refresh tokens; two resources,
// `https://sign.test` (audience `chancery`) and `https://other.test` (audience `other`); one ES256 key. Tokens
// are JWTs (RFC 9068) with the person's `roles`. Everything is in memory.
//
// | for the rig | does |
// |---|---|
// | POST /rig/confirm {userCode, user, roles} | opens the verification page as `user`, logs in, agrees |
// | POST /rig/refuse {userCode} | the same, but says no |
// | POST /rig/rotate | a new key; the old one is no longer published; what was granted stays |
// | POST /rig/token {user, roles} | an access token as it would issue, without the pages
// | POST /rig/lifetime {seconds} | life of access tokens from now on; 300 at start |

import { createPrivateKey, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';
import { createMemoryAdapter } from 'oidc-provider/lib/adapters/memory_adapter.js';
import { confirm, refuse } from './person.mjs';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const audiences = { 'https://sign.test': 'chancery', 'https://other.test': 'other' };
const memory = createMemoryAdapter();
const roles = new Map();
let lifetime = 300;
let keys = 0;
let current;

function newKey() {
  keys += 1;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  current = { ...privateKey.export({ format: 'jwk' }), kid: `key-${keys}`, use: 'sig', alg: 'ES256' };
  return current;
}

function client(id) {
  return {
    client_id: id,
    token_endpoint_auth_method: 'none',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    response_types: [],
    redirect_uris: [],
    application_type: 'native',
    id_token_signed_response_alg: 'ES256',
  };
}

// What was granted is in memory that all of them share: one can take another's place.
function newProvider() {
  return new Provider(issuer, {
    adapter: memory,
    clients: [client('chancery-cli'), client('other-cli')],
    jwks: { keys: [newKey()] },
    cookies: { keys: ['for tests'] },
    claims: { openid: ['sub', 'roles', 'preferred_username'] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...person(id) }) }),
    extraTokenClaims: (_, token) => person(token.accountId),
    issueRefreshToken: (_, asking) => asking.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true,
    features: {
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => ({
          audience: audiences[resource] ?? resource,
          scope: '',
          accessTokenFormat: 'jwt',
          accessTokenTTL: lifetime,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  });
}

function person(id) {
  return { roles: roles.get(id) ?? [], preferred_username: id };
}

function token({ user, roles: given }) {
  const now = Math.floor(Date.now() / 1000);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const head = part({ alg: 'ES256', typ: 'at+jwt', kid: current.kid });
  const claims = { iss: issuer, sub: user, aud: 'chancery', client_id: 'chancery-cli', jti: randomUUID() };
  const body = part({ ...claims, iat: now, exp: now + lifetime, roles: given, preferred_username: user });
  const key = createPrivateKey({ key: current, format: 'jwk' });
  const signature = sign('sha256', Buffer.from(`${head}.${body}`), { key, dsaEncoding: 'ieee-p1363' });
  return `${head}.${body}.${signature.toString('base64url')}`;
}

const rig = {
  '/rig/token': (asked) => token(asked),
  '/rig/confirm': async ({ userCode, user, roles: given }) => {
    roles.set(user, given);
    await confirm(`${issuer}/device`, userCode, user);
  },
  '/rig/refuse': ({ userCode }) => refuse(`${issuer}/device`, userCode),
  '/rig/rotate': () => { answer = newProvider().callback(); },
  '/rig/lifetime': ({ seconds }) => { lifetime = seconds; },
};

let answer = newProvider().callback();

createServer(async (request, response) => {
  const act = rig[request.url];
  if (!act) return answer(request, response);
  try {
    const parts = await request.toArray();
    const result = await act(JSON.parse(Buffer.concat(parts).toString() || '{}'));
    response.end(`${result ?? 'done'}\n`);
  } catch (error) {
    response.statusCode = 500;
    response.end(`${error.stack}\n`);
  }
}).listen(port, '127.0.0.1');
