// An authorization server for tests: oidc-provider, set up as the first line of
// standard input says. The first line of standard output is its address. After
// that, each line in is a question or an order, and each line out its answer; so
// what tests may know of the tokens is out of reach of whoever speaks HTTP. It
// ends when standard input does, that is with the test, however that ends.
//
// Line 1 in:  {"issuer": "https://auth.example.com" or "", "clients": [...], ...}
// Line 1 out: {"address": "127.0.0.1:40123", "issuer": "..."}
// Line n in:  {"id": 1, "op": "stats", ...}
// Line n out: {"id": 1, "result": ...} or {"id": 1, "error": "..."}
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { randomBytes, generateKeyPairSync } from 'node:crypto';

// oidc-provider gives advice by console.info, which is standard output.
console.info = console.log = console.warn = console.error;
const { Provider, errors } = await import('oidc-provider');

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const config = JSON.parse((await lines.next()).value);
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');

// --- what is stored: kind -> id -> record; nothing is ever dropped, so that a
// token can be asked about after its end

const records = new Map();
const counters = {
  exchanges: [], reused: 0, revoked_grants: [], revocations: [], registrations: 0,
  authorizations: 0, denied: 0, devices: 0, userinfo: { ok: 0, refused: 0 }, resource: { ok: 0, refused: 0 },
};

const kind = (name) => {
  if (!records.has(name)) records.set(name, new Map());
  return records.get(name);
};
const live = (record) => (record && !record.gone ? record.payload : undefined);
const tokenKinds = ['AccessToken', 'RefreshToken', 'AuthorizationCode', 'DeviceCode', 'ClientCredentials'];

// endGrant ends everything that came of one consent.
function endGrant(grantId) {
  if (!grantId) return;
  if (!counters.revoked_grants.includes(grantId)) counters.revoked_grants.push(grantId);
  const grant = kind('Grant').get(grantId);
  if (grant) grant.gone = true;
  for (const name of tokenKinds) {
    for (const record of kind(name).values()) {
      if (record.payload.grantId === grantId) record.gone = true;
    }
  }
}

class Store {
  constructor(name) { this.name = name; this.map = kind(name); }

  async upsert(id, payload) {
    const old = this.map.get(id);
    // A grant that was ended while a request was under way stays ended.
    const dead = payload.grantId && kind('Grant').get(payload.grantId)?.gone;
    this.map.set(id, { payload: { ...payload }, gone: Boolean(old?.gone || dead) });
  }

  async find(id) {
    const p = live(this.map.get(id));
    return p && { ...p };
  }

  async #by(field, value) {
    for (const [, record] of this.map) {
      if (live(record)?.[field] === value) return { ...record.payload };
    }
    return undefined;
  }

  findByUid(uid) { return this.#by('uid', uid); }
  findByUserCode(code) { return this.#by('userCode', code); }

  async destroy(id) {
    const record = this.map.get(id);
    if (record) record.gone = true;
  }

  // consume is where two requests with the same token meet that came too close
  // for oidc-provider to see the first: the second is a reuse as any other.
  async consume(id) {
    const record = this.map.get(id);
    if (record.payload.consumed) {
      counters.reused++;
      endGrant(record.payload.grantId);
      throw new errors.InvalidGrant(`${this.name} was used by two requests at once`);
    }
    record.payload.consumed = Math.floor(Date.now() / 1000);
  }

  async revokeByGrantId(grantId) { endGrant(grantId); }
}

// --- the pages: one form each, with ids that tests click on

const escape = (s) => String(s ?? '').replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const page = (title, body) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escape(title)}</title><body><h1>${escape(title)}</h1>${body}</body></html>`;

async function interaction(ctx) {
  const details = await provider.interactionDetails(ctx.req, ctx.res);
  const { uid, prompt, params, session } = details;
  if (ctx.method !== 'POST') {
    ctx.type = 'html';
    ctx.set('Cache-Control', 'no-store');
    ctx.body = prompt.name === 'login'
      ? page('Sign in', `<form method="post" action="/interaction/${uid}"><label>Login <input id="login" name="login" value="${escape(params.login_hint)}"></label><button id="signin" name="answer" value="signin">Sign in</button></form>`)
      : page('Authorize', `<p>${escape(params.client_id)} asks for <code id="scopes">${escape(params.scope)}</code></p><form method="post" action="/interaction/${uid}"><button id="consent" name="answer" value="allow">Allow</button><button id="deny" name="answer" value="deny">Deny</button></form>`);
    return;
  }
  const form = new URLSearchParams(await text(ctx.req));
  if (form.get('answer') === 'deny') {
    counters.denied++;
    await provider.interactionFinished(ctx.req, ctx.res, { error: 'access_denied', error_description: 'the person said no' }, { mergeWithLastSubmission: false });
    ctx.respond = false;
    return;
  }
  let result;
  if (prompt.name === 'login') {
    result = { login: { accountId: form.get('login') || 'nobody' } };
  } else {
    const grant = details.grantId
      ? await provider.Grant.find(details.grantId)
      : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
    const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = prompt.details;
    if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
    if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
    for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) grant.addResourceScope(resource, scopes.join(' '));
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
  ctx.respond = false;
}

async function text(stream) {
  let s = '';
  for await (const chunk of stream) s += chunk;
  return s;
}

// --- the protected resource

async function validToken(value) {
  const token = await provider.AccessToken.find(value) ?? await provider.ClientCredentials.find(value);
  if (!token || token.isExpired) return undefined;
  if (token.grantId && !await provider.Grant.find(token.grantId)) return undefined;
  return token;
}

async function resource(ctx) {
  const [scheme, value] = (ctx.get('authorization') || '').split(' ');
  const token = scheme.toLowerCase() === 'bearer' && value ? await validToken(value) : undefined;
  if (!token) {
    counters.resource.refused++;
    ctx.status = 401;
    ctx.set('WWW-Authenticate', value ? 'Bearer error="invalid_token"' : 'Bearer');
    ctx.body = { error: 'invalid_token' };
    return;
  }
  counters.resource.ok++;
  ctx.body = { login: token.accountId, client_id: token.clientId, scope: token.scope ?? '', audience: token.aud ?? '' };
}

// --- the server

const server = createServer();
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const address = `127.0.0.1:${server.address().port}`;
const issuer = config.issuer || `http://${address}`;
const seconds = (n, otherwise) => () => n || otherwise;
const longest = 400 * 24 * 3600;
const devicePolls = new Map(); // device code -> time of its last poll
const documents = new Map(Object.entries(config.documents ?? {}));

const provider = new Provider(issuer, {
  adapter: Store,
  clockTolerance: 0, // a token is over when it says so
  cookies: { keys: [randomBytes(16).toString('hex')] },
  // A new key each time; the one of the library is the same for everybody.
  jwks: { keys: [{ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), use: 'sig', kid: 'test' }] },
  clientAuthMethods: config.auth_methods ?? ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
  clientDefaults: { grant_types: ['authorization_code', 'refresh_token'] },
  pkce: { required: (_, client) => Boolean(config.pkce) || client.clientAuthMethod === 'none' },
  scopes: ['openid', 'offline_access', 'email', 'profile', ...(config.scopes ?? ['read', 'write'])],
  claims: { openid: ['sub'], email: ['email'], profile: ['name', 'preferred_username'] },
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: async () => ({ sub, name: `The person ${sub}`, preferred_username: sub, email: `${sub}@example.com` }),
  }),
  interactions: { url: (_, i) => `/interaction/${i.uid}` },
  expiresWithSession: () => false,
  issueRefreshToken: (_, client, source) => config.refresh !== 'never'
    && client.grantTypeAllowed('refresh_token')
    && (config.refresh !== 'offline' || source.scopes.has('offline_access')),
  rotateRefreshToken: () => Boolean(config.rotate),
  ttl: {
    AccessToken: seconds(config.access_seconds, 3600),
    ClientCredentials: seconds(config.access_seconds, 3600),
    RefreshToken: seconds(config.refresh_seconds, longest),
    AuthorizationCode: seconds(config.code_seconds, 60),
    DeviceCode: seconds(config.device_seconds, 600),
    Grant: seconds(0, longest),
    IdToken: seconds(0, 3600),
    Interaction: seconds(0, 3600),
    Session: seconds(0, 3600),
  },
  fetch: async (url) => {
    const document = documents.get(String(url));
    if (document === undefined) throw new Error(`there is no ${url}`);
    return new Response(document, { headers: { 'content-type': 'application/json' } });
  },
  features: {
    devInteractions: { enabled: false },
    dPoP: { enabled: false },
    pushedAuthorizationRequests: { enabled: false },
    rpInitiatedLogout: { enabled: false },
    userinfo: { enabled: true },
    clientCredentials: { enabled: Boolean(config.client_credentials) },
    introspection: { enabled: true },
    revocation: { enabled: !config.no_revocation },
    registration: { enabled: Boolean(config.registration) },
    clientIdMetadataDocument: config.documents ? { enabled: true, ack: 'draft-02' } : { enabled: false },
    deviceFlow: {
      enabled: Boolean(config.device),
      userCodeInputSource: async (ctx, form, out, err) => {
        ctx.body = page('Device', `${err ? `<p id="problem">${escape(err.name)}</p>` : ''}${form}<button id="continue" type="submit" form="op.deviceInputForm">Continue</button>`);
      },
      userCodeConfirmSource: async (ctx, form, client, info, code) => {
        ctx.body = page('Is this the code on your device?', `<code id="code">${escape(code)}</code>${form}<button id="consent" type="submit" form="op.deviceConfirmForm">Yes</button><button id="deny" type="submit" form="op.deviceConfirmForm" name="abort" value="yes">No</button>`);
      },
      successSource: async (ctx) => { ctx.body = page('Done', '<p id="done">You can close this page.</p>'); },
    },
    resourceIndicators: {
      enabled: Boolean(config.resources?.length),
      defaultResource: (_ctx, _client, oneOf) => {
        if (oneOf) return Array.isArray(oneOf) ? oneOf[0] : oneOf;
        if (config.require_resource) throw new errors.InvalidTarget();
        return undefined;
      },
      useGrantedResource: () => !config.require_resource,
      getResourceServerInfo: (_, indicator) => {
        if (!config.resources.includes(indicator)) throw new errors.InvalidTarget();
        return { scope: (config.scopes ?? ['read', 'write']).join(' '), audience: indicator, accessTokenFormat: 'opaque' };
      },
    },
  },
});
provider.proxy = true; // X-Forwarded-Proto says that the outside is https

provider.use(async (ctx, next) => {
  if (ctx.path.startsWith('/interaction/')) return interaction(ctx);
  if (ctx.path === '/resource') return resource(ctx);
  await next();
  const at = ctx.oidc?.route;
  if (at === 'userinfo') counters.userinfo[ctx.status === 200 ? 'ok' : 'refused']++;
  // RFC 7009, section 2.2: the answer is 200 for an unknown token as well.
  if (at === 'revocation') {
    for (const name of ['AccessToken', 'RefreshToken', 'ClientCredentials']) {
      if (ctx.oidc.entities[name]) counters.revocations.push(name);
    }
  }
  if (at === 'device_authorization' && ctx.body?.device_code && config.device_interval) ctx.body.interval = config.device_interval;
  // RFC 8628, section 3.5: who polls within the interval is told to slow down.
  if (at === 'token' && ctx.body?.error === 'authorization_pending') {
    const code = ctx.oidc.params.device_code;
    const now = Date.now();
    const poll = devicePolls.get(code) ?? { at: 0, interval: (config.device_interval || 5) * 1000 };
    if (now - poll.at < poll.interval - 100) {
      poll.interval += 5000;
      ctx.body = { error: 'slow_down', error_description: 'asked again too soon' };
      counters.exchanges.at(-1).error = 'slow_down';
    }
    poll.at = now;
    devicePolls.set(code, poll);
  }
  return undefined;
});

function exchange(ctx, error) {
  const p = ctx.oidc?.params ?? {};
  const basic = (ctx.get('authorization') || '').toLowerCase().startsWith('basic ');
  let auth = 'none';
  if (basic) auth = 'basic';
  else if (p.client_assertion) auth = 'jwt';
  else if (p.client_secret) auth = 'body';
  counters.exchanges.push({
    grant_type: p.grant_type ?? '', client_id: ctx.oidc?.client?.clientId ?? p.client_id ?? '', auth,
    scope: p.scope ?? '', resource: [p.resource ?? []].flat().join(' '), pkce: Boolean(p.code_verifier),
    error: error ? (error.error ?? 'server_error') : '', description: error?.error_detail ?? error?.error_description ?? '',
  });
}
provider.on('grant.success', (ctx) => exchange(ctx));
provider.on('grant.error', (ctx, err) => {
  exchange(ctx, err);
  if (/already (used|consumed)/.test(`${err.error_detail} ${err.error_description}`)) counters.reused++;
});
provider.on('grant.revoked', (_, id) => endGrant(id));
provider.on('registration_create.success', () => { counters.registrations++; });
provider.on('authorization.success', () => { counters.authorizations++; });
provider.on('device_authorization.success', () => { counters.devices++; });
provider.on('server_error', (_, err) => console.error(err));

for (const client of config.clients ?? []) {
  await new Store('Client').upsert(client.client_id, client);
}

// --- questions and orders

function token(name, record) {
  const p = record.payload;
  const now = Math.floor(Date.now() / 1000);
  let state = 'valid';
  if (record.gone || (p.grantId && (kind('Grant').get(p.grantId)?.gone ?? true))) state = 'revoked';
  else if (p.consumed) state = 'used';
  else if (p.exp <= now) state = 'expired';
  return {
    kind: name, value: p.jti, client_id: p.clientId, login: p.accountId ?? '', grant: p.grantId ?? '', scope: p.scope ?? '',
    audience: [p.aud ?? []].flat().join(' '), issued: p.iat, expires: p.exp ?? 0, state,
  };
}

function findToken(value) {
  for (const name of tokenKinds) {
    const record = kind(name).get(value);
    if (record) return [name, record];
  }
  throw new Error('no such token was issued');
}

const orders = {
  stats: () => counters,
  tokens: () => tokenKinds.flatMap((name) => [...kind(name).values()].map((r) => token(name, r))),
  token: ({ value }) => token(...findToken(value)),
  clients: () => [...kind('Client').entries()].filter(([, r]) => !r.gone).map(([, r]) => r.payload),
  // The server has never heard of this client.
  forget_client: ({ client_id }) => {
    const record = kind('Client').get(client_id);
    if (!record) throw new Error('no such client');
    record.gone = true;
  },
  set_client: ({ client_id, metadata }) => {
    const record = kind('Client').get(client_id);
    if (!record) throw new Error('no such client');
    record.payload = { ...record.payload, ...metadata };
  },
  // One token ends before its time; the rest of its grant goes on.
  end_token: ({ value }) => { findToken(value)[1].gone = true; },
  end_access_tokens: () => {
    for (const record of kind('AccessToken').values()) record.gone = true;
  },
  // The person takes the consent back.
  end_grants: () => {
    for (const id of [...kind('Grant').keys()]) endGrant(id);
  },
};

server.on('request', provider.callback());
say({ address, issuer });
for await (const line of lines) {
  const { id, op, ...args } = JSON.parse(line);
  try {
    if (!orders[op]) throw new Error(`no such order: ${op}`);
    say({ id, result: orders[op](args) ?? null });
  } catch (err) {
    say({ id, error: err.message });
  }
}
process.exit(0);
