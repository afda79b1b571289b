// A body that is a stream, an abort, and many requests at once.
const url = 'https://api.openai.com/v1/chat/completions';
const body = JSON.stringify({ model: 'gpt-5', messages: [{ role: 'user', content: 'x'.repeat(1 << 20) }] });
const stream = new ReadableStream({
  start(c) {
    for (let i = 0; i < body.length; i += 65536) c.enqueue(new TextEncoder().encode(body.slice(i, i + 65536)));
    c.close();
  },
});
console.log(await (await fetch(url, { method: 'POST', body: stream, duplex: 'half' })).text());
try {
  await fetch('https://echo.example.com/stream', { signal: AbortSignal.timeout(300) }).then((r) => r.text());
  console.log('not aborted');
} catch (err) {
  console.log(err.name);
}
const all = await Promise.all(Array.from({ length: 20 }, () => fetch('https://api.openai.com/v1/models').then((r) => r.json())));
console.log(all.every((r) => r.data[0].id === 'gpt-5') ? 'all of them' : 'some are missing');
