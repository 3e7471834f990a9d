// A real OpenID provider on loopback, for the tests: private_key_jwt, certificate-bound JWT access
// tokens. Its keys and faults are driven by lines on standard input.
//
// node identity-provider.mjs MODULES DIRECTORY
//   MODULES    where oidc-provider is installed
//   DIRECTORY  has server.pem, server.key, ca.pem and client.jwks, the public keys of its client

import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, directory] = process.argv.slice(2);
const library = join(modules, 'node_modules', 'oidc-provider', 'lib', 'index.js');
const { default: Provider } = await import(pathToFileURL(library));
const file = (name) => readFileSync(join(directory, name));
// Standard output is for the answers to commands alone.
console.info = console.error;
console.log = console.error;
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const server = createServer({
  key: file('server.key'),
  cert: file('server.pem'),
  ca: file('ca.pem'),
  requestCert: true,
  rejectUnauthorized: false,
});

let keys = [];
let answer;
let fetched = 0;
let down = false;

function addKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const kid = `key-${keys.length + 1}-${Date.now()}`;
  keys.unshift({ ...privateKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' });
}

// A provider has its keys for life: other keys are another provider at the same address.
function provide() {
  const issuer = `https://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'ward-app',
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: 'ES256',
      jwks: JSON.parse(file('client.jwks')),
      grant_types: ['client_credentials'],
      response_types: [],
      id_token_signed_response_alg: 'ES256',
      redirect_uris: [],
      tls_client_certificate_bound_access_tokens: true,
    }],
    ttl: { ClientCredentials: 300 },
    clientAuthMethods: ['private_key_jwt'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        getCertificate: (ctx) => ctx.socket.getPeerX509Certificate(),
      },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: 'vitalgate other',
          audience: resource,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 300,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  });
  answer = provider.callback();
}

server.on('request', (request, response) => {
  if (down) {
    request.socket.destroy();
    return;
  }
  if (request.url === '/jwks') fetched += 1;
  answer(request, response);
});

const commands = {
  // A new key signs from now on; the old ones are still published.
  rotate() { addKey(); provide(); },
  // Only the newest key is published.
  withdraw() { keys = keys.slice(0, 1); provide(); },
  down() { down = true; server.closeAllConnections(); },
  up() { down = false; },
  count() {},
};

server.listen(0, '127.0.0.1', () => {
  addKey();
  provide();
  say({ port: server.address().port });
});

createInterface({ input: process.stdin })
  .on('line', (line) => {
    commands[line]();
    say({ done: line, fetched });
  })
  .on('close', () => process.exit(0));
