import https from 'https';
const agent = new https.Agent({ keepAlive: true });
const get = () => new Promise((resolve, reject) => https.get('https://api.openai.com/v1/models', { agent }, (answer) => {
  let text = '';
  answer.on('data', (b) => text += b).on('end', () => resolve(text));
}).on('error', reject));
await get();
console.log(await get());
agent.destroy();
