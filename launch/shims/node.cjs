// Leads Node's https requests through the proxy of the environment where Node
// itself does not:
//
//   - before 22.21 and 24.5, which do not know NODE_USE_ENV_PROXY: fetch,
//     WebSocket, https, and all that is made of them;
//   - in every version: agents of a program's own (new https.Agent), clients
//     that connect by a function of their own, as ws does, and the package
//     undici from version 8, which does not ask Node.
//
// Hosts in NO_PROXY, sockets that somebody else has opened, and plain http stay
// as they are. A program that unsets the proxy variables goes its own way. It
// prints nothing, and where it cannot do its work it does nothing.
'use strict';

(() => {
  const major = parseInt(process.versions.node, 10);
  // Bun and Deno call themselves Node, and route their own way.
  if (process.versions.bun || process.versions.deno || process.versions.electron || major < 18) return;

  const http = require('http');
  const https = require('https');
  const net = require('net');

  // proxyFor is the proxy that the environment names for a host, as a URL.
  function proxyFor(host, port) {
    const value = process.env.https_proxy || process.env.HTTPS_PROXY;
    if (!value || !host) return undefined;
    host = String(host).toLowerCase().replace(/^\[|\]$/g, '');
    const except = process.env.no_proxy || process.env.NO_PROXY || '';
    for (let entry of except.toLowerCase().split(/[\s,]+/)) {
      const colon = /^(?:\[(.*)\]|([^:]*)):(\d+)$/.exec(entry);
      if (colon) {
        if (Number(colon[3]) !== Number(port || 443)) continue;
        entry = colon[1] ?? colon[2];
      }
      entry = entry.replace(/^\*?\./, '');
      if (entry && (entry === '*' || host === entry || host.endsWith('.' + entry))) return undefined;
    }
    let proxy;
    try {
      proxy = new URL(value);
    } catch {
      return undefined;
    }
    return proxy.protocol === 'http:' ? proxy : undefined;
  }

  // tunnel opens a connection to host:port through the proxy (RFC 9110 section
  // 9.3.6).
  function tunnel(proxy, host, port, callback) {
    const authority = (net.isIPv6(host) ? `[${host}]` : host) + ':' + (port || 443);
    const headers = { host: authority };
    if (proxy.username || proxy.password) {
      const pair = decodeURIComponent(proxy.username) + ':' + decodeURIComponent(proxy.password);
      headers['proxy-authorization'] = 'Basic ' + Buffer.from(pair).toString('base64');
    }
    const target = { host: proxy.hostname.replace(/^\[|\]$/g, ''), port: Number(proxy.port) || 80 };
    let done = (err, socket) => {
      done = () => {};
      callback(err, socket);
    };
    const request = new http.ClientRequest({
      ...target, method: 'CONNECT', path: authority, headers, agent: undefined,
      createConnection: () => net.connect(target),
    });
    request.once('connect', (response, socket, head) => {
      socket.setTimeout(0);
      if (response.statusCode !== 200) {
        socket.destroy();
        const err = new Error(`the proxy answers ${response.statusCode} to CONNECT ${authority}`);
        err.code = 'ERR_PROXY_TUNNEL';
        return done(err);
      }
      if (head.length > 0) socket.unshift(head);
      done(null, socket);
    });
    request.once('response', (response) => {
      response.resume();
      done(new Error(`the proxy answers ${response.statusCode} to CONNECT ${authority}`));
    });
    request.on('error', (err) => done(err));
    request.end();
  }

  // Every agent for https opens its connections here, the global one and those
  // of a program's own. What has a method of its own, as agents for proxies do,
  // comes here with a socket, or not at all.
  const createConnection = https.Agent.prototype.createConnection;
  https.Agent.prototype.createConnection = function (...args) {
    const [options, callback] = args;
    if (options === null || typeof options !== 'object' || typeof callback !== 'function' ||
        options.socket || options.socketPath || this.options?.proxyEnv) {
      return createConnection.apply(this, args);
    }
    const proxy = proxyFor(options.host, options.port);
    if (!proxy) return createConnection.apply(this, args);
    tunnel(proxy, options.host, options.port, (err, socket) => {
      if (err) return callback(err);
      let secure;
      try {
        secure = createConnection.call(this, { ...options, socket });
      } catch (err) {
        socket.destroy();
        return callback(err);
      }
      callback(null, secure);
    });
  };

  // ws gives https a function that connects, and so has no agent. An upgrade to
  // WebSocket without a socket of its own can as well go by the usual one.
  for (const name of ['request', 'get']) {
    const original = https[name];
    https[name] = function (...args) {
      const at = args.findIndex((a) => a !== null && typeof a === 'object' && !(a instanceof URL));
      const options = args[at];
      if (options && !options.agent && options.agent !== false && !options.socketPath &&
          typeof options.createConnection === 'function' && isWebSocket(options.headers) &&
          proxyFor(options.host || options.hostname, options.port)) {
        args[at] = { ...options, createConnection: undefined, agent: https.globalAgent };
      }
      return Reflect.apply(original, this, args);
    };
    Object.defineProperty(https[name], 'name', { value: name });
  }

  function isWebSocket(headers) {
    if (headers === null || typeof headers !== 'object' || Array.isArray(headers)) return false;
    return Object.keys(headers).some((k) => k.toLowerCase() === 'upgrade' && String(headers[k]).toLowerCase() === 'websocket');
  }

  try {
    require('module').syncBuiltinESMExports(); // for: import { request } from 'https'
  } catch { /* nobody has imported them yet */ }

  // fetch, WebSocket and the package undici send their requests by the dispatcher
  // that stands under one of these symbols; 2 is for undici 7 and later. Whichever
  // copy of undici is loaded first, Node's own among them, finds none and puts
  // one there. It is of a class that Node exports nowhere, and loading it takes
  // 30 ms, so it is replaced on its way there.
  const first = Symbol.for('undici.globalDispatcher.1');
  const second = Symbol.for('undici.globalDispatcher.2');
  const replaced = new WeakMap();
  let armed = false;

  function arm() {
    if (armed) return;
    armed = true;
    const original = Object.defineProperty;
    const disarm = () => {
      if (Object.defineProperty === defineProperty) Object.defineProperty = original;
      armed = false;
    };
    let latest;
    function defineProperty(target, key, descriptor) {
      if (target === globalThis && (key === first || key === second) && descriptor?.value) {
        const value = latest && descriptor.value.constructor !== latest.plain.constructor && descriptor.value !== latest.plain
          ? wrapped(descriptor.value, latest.through) : routed(descriptor.value);
        latest ??= value === descriptor.value ? undefined : { plain: descriptor.value, through: value };
        descriptor = { ...descriptor, value };
        if (key === first) disarm(); // the only one, or the last
      }
      return original(target, key, descriptor);
    }
    try {
      Object.defineProperty = defineProperty;
      queueMicrotask(disarm); // somebody has only looked
    } catch { /* frozen intrinsics */ }
  }

  // wrapped is for undici 8, which puts its dispatcher under the first symbol in
  // a wrapper for older copies.
  function wrapped(wrapper, through) {
    try {
      return new wrapper.constructor(through);
    } catch {
      return wrapper;
    }
  }

  // routed is like plain, but for the requests that the proxy is to have.
  function routed(plain) {
    if (replaced.has(plain)) return replaced.get(plain);
    let through;
    try {
      through = new plain.constructor({ connect });
      const dispatch = through.dispatch;
      through.dispatch = function (options, handler) {
        let url;
        try {
          url = new URL(options.origin);
        } catch { /* its own complaint is better */ }
        if (url?.protocol === 'https:' && proxyFor(url.hostname, url.port)) return dispatch.call(through, options, handler);
        return plain.dispatch(options, handler);
      };
    } catch {
      return plain; // another kind of dispatcher than those that are known
    }
    replaced.set(plain, through);
    return through;
  }

  // connect is a connector as undici's Agent takes it.
  function connect({ hostname, port, servername }, callback) {
    const proxy = proxyFor(hostname, port);
    if (!proxy) return callback(new Error('the proxy variables are gone'));
    tunnel(proxy, hostname, port, (err, socket) => {
      if (err) return callback(err);
      socket.setNoDelay(true);
      socket.setKeepAlive(true, 60e3);
      const secure = require('tls').connect({
        socket, servername: servername || (net.isIP(hostname) ? '' : hostname), ALPNProtocols: ['http/1.1'],
      });
      secure.once('secureConnect', () => {
        secure.removeListener('error', callback);
        callback(null, secure);
      });
      secure.once('error', callback);
    });
  }

  for (const symbol of [first, second]) {
    if (symbol in globalThis) continue; // Node's own for NODE_USE_ENV_PROXY, or another preload's
    Object.defineProperty(globalThis, symbol, {
      get: () => arm(),
      set: (value) => Object.defineProperty(globalThis, symbol, { value, writable: true, enumerable: true, configurable: true }),
      enumerable: false, configurable: true,
    });
  }
})();
