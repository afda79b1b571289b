import got from 'got';
console.log(await got('https://api.openai.com/v1/models').text());
