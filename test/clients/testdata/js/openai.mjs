import OpenAI from 'openai';
const stream = await new OpenAI().chat.completions.create({ model: 'gpt-5', stream: true, messages: [{ role: 'user', content: 'hi' }] });
for await (const part of stream) process.stdout.write(part.choices[0].delta.content ?? '');
