import Anthropic from '@anthropic-ai/sdk';
const message = await new Anthropic().messages.create({ model: 'claude', max_tokens: 10, messages: [{ role: 'user', content: 'hi' }] });
console.log(message.content[0].text);
