// An OpenID Connect provider for tests: http://127.0.0.1:PORT, one client, accounts given as JSON on the command line.
// It says {"issuer": ...} on stdout once it listens. POST /test/rotate: from now on it signs with another key.
import { generateKeyPairSync } from 'node:crypto';
import http from 'node:http';
import Provider from 'oidc-provider';

const [redirect, accountsText, idTokenClaims] = process.argv.slice(2);
const accounts = JSON.parse(accountsText);
const keyOf = (kid) => ({
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  kid, alg: 'RS256', use: 'sig',
});

function build(issuer, kid) {
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'ringfence', client_secret: 'a secret: of/the+client', redirect_uris: [redirect],
      post_logout_redirect_uris: [new URL('/', redirect).href],
      token_endpoint_auth_method: 'client_secret_basic',
    }],
    jwks: { keys: [keyOf(kid)] },
    cookies: { keys: ['test'] },
    claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
    conformIdTokenClaims: idTokenClaims !== 'in-token',
    pkce: { required: () => true },
    features: { devInteractions: { enabled: false }, rpInitiatedLogout: { enabled: true } },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (ctx, sub) => accounts[sub] && { accountId: sub, claims: () => ({ sub, ...accounts[sub] }) },
    loadExistingGrant: async (ctx) => { // everybody consents
      const grant = new ctx.oidc.provider.Grant({
        clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId,
      });
      grant.addOIDCScope('openid profile');
      await grant.save();
      return grant;
    },
  });
  return provider;
}

let provider;
let rotations = 0;
const server = http.createServer(async (req, res) => {
  const url = new URL(req.url, 'http://127.0.0.1');
  if (req.method === 'POST' && url.pathname === '/test/rotate') {
    provider = build(provider.issuer, `key-${(rotations += 1)}`);
    res.end('rotated');
  } else if (url.pathname.startsWith('/interaction/')) { // ?as=ACCOUNT signs in; ?as=nobody refuses
    const who = url.searchParams.get('as');
    const result = accounts[who] ? { login: { accountId: who } } : { error: 'access_denied' };
    await provider.interactionFinished(req, res, result, { mergeWithLastSubmission: false });
  } else {
    provider.callback()(req, res);
  }
});
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  provider = build(issuer, 'key-0');
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0)); // it ends with whoever started it
