import axios from 'axios';
console.log(JSON.stringify((await axios.get('https://api.openai.com/v1/models')).data));
