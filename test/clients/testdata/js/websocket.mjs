// Bun's takes a proxy by name.
const options = process.argv.length > 2 ? { proxy: process.env.HTTPS_PROXY } : undefined;
const socket = new WebSocket('wss://api.openai.com/v1/responses', options);
socket.addEventListener('open', () => socket.send(JSON.stringify({ type: 'response.create' })));
socket.addEventListener('error', (event) => { console.error(event.message || event.error); process.exit(1); });
socket.addEventListener('message', (event) => {
  if (JSON.parse(event.data).type !== 'response.completed') return;
  console.log(event.data);
  socket.close();
});
