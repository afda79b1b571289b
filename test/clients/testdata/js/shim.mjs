// What the shim must leave as it is, and what it must not forget. Each line of
// the output is one finding.
import http from 'http';
import https from 'https';
import net from 'net';
import { Worker } from 'worker_threads';

const models = 'https://api.openai.com/v1/models';
const say = (what, value) => console.log(`${what}: ${value}`);
const get = (url, options) => new Promise((resolve) => {
  https.get(url, options, (answer) => answer.resume().on('end', () => resolve(answer.statusCode)))
    .on('error', (err) => resolve(err.code ?? err.message));
});
const fetched = (url) => fetch(url).then((r) => r.status, (err) => err.cause?.code ?? err.cause?.message ?? err.message);

// An agent that makes its own tunnel and has https put TLS on it.
class Tunnel extends https.Agent {
  createConnection(options, callback) {
    const proxy = new URL(process.env.HTTPS_PROXY);
    const auth = Buffer.from(`${proxy.username}:${decodeURIComponent(proxy.password)}`).toString('base64');
    http.request({
      host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: `${options.host}:${options.port}`,
      headers: { 'Proxy-Authorization': `Basic ${auth}` },
    }).on('connect', (_, socket) => callback(null, super.createConnection({ ...options, socket }))).end();
  }
}
say('an agent for a proxy', await get(models, { agent: new Tunnel() }));

say('agent: false', await get(models, { agent: false }));
say('a URL and options', await get(new URL(models), { headers: { accept: '*/*' } }));
say('in a worker', await new Promise((resolve, reject) => {
  const worker = new Worker(`require('worker_threads').parentPort.postMessage(0); fetch('${models}').then((r) => require('worker_threads').parentPort.postMessage(r.status))`, { eval: true });
  worker.on('message', (status) => status && worker.terminate().then(() => resolve(status))).on('error', reject);
}));

const local = http.createServer((_, answer) => answer.end('local')).listen(0, '127.0.0.1');
await new Promise((resolve) => local.once('listening', resolve));
say('http on this machine', await (await fetch(`http://127.0.0.1:${local.address().port}/`)).text());
local.close();
local.closeAllConnections?.();

const server = net.createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
await new Promise((resolve) => server.once('listening', resolve));
say('https on this machine', await get(`https://localhost:${server.address().port}/`) !== 200);
server.close();

// The next two are in NO_PROXY, as the test sets it.
say('fetch, NO_PROXY', await fetched('https://sub.elsewhere.example/') !== 200);
say('https, NO_PROXY', await get('https://port.example:443/') !== 200);

say('fetch, refused', await fetched('https://unknown.example.com/'));
say('https, refused', await get('https://unknown.example.com/'));

say('names', `${fetch.name} ${https.get.name} ${https.request.name} ${typeof Headers} ${typeof FormData}`);
for (const name of ['HTTPS_PROXY', 'https_proxy']) delete process.env[name];
say('without the variables', await get('https://unset.example/', { agent: new https.Agent() }) !== 200);
process.exit(0); // Node's own https would wait for the refused connection's end
