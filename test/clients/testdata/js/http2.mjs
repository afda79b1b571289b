import http2 from 'http2';
const session = http2.connect('https://api.openai.com');
session.on('error', (err) => { console.error(err.code); process.exit(1); });
const stream = session.request({ ':path': '/v1/models' });
stream.on('end', () => session.close());
stream.pipe(process.stdout);
