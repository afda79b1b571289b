import fetch from 'node-fetch';
console.log(await (await fetch('https://api.openai.com/v1/models')).text());
