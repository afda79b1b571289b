import { request } from 'undici';
const { body } = await request('https://api.openai.com/v1/models');
console.log(await body.text());
console.log(await (await fetch('https://api.openai.com/v1/models')).text());
