import { request } from 'node:https';
request({ hostname: 'api.openai.com', path: '/v1/models' }, (answer) => answer.pipe(process.stdout)).end();
