import https from 'https';
https.get('https://api.openai.com/v1/models', (answer) => answer.pipe(process.stdout));
