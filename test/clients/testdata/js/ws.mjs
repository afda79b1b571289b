import WebSocket from 'ws';
const socket = new WebSocket('wss://api.openai.com/v1/responses', { headers: { authorization: `Bearer ${process.env.OPENAI_API_KEY}` } });
socket.on('open', () => socket.send(JSON.stringify({ type: 'response.create' })));
socket.on('error', (err) => { console.error(err.message); process.exit(1); });
socket.on('message', (data) => {
  if (JSON.parse(data).type !== 'response.completed') return;
  console.log(String(data));
  socket.close();
});
