// A dispatcher of the program's own stays the program's own.
import { Agent, getGlobalDispatcher, setGlobalDispatcher } from 'undici6';
let asked = 0;
class Mine extends Agent {
  dispatch(options, handler) {
    asked++;
    return super.dispatch(options, handler);
  }
}
const mine = new Mine();
setGlobalDispatcher(mine);
await fetch('https://api.openai.com/v1/models').catch(() => {});
console.log(`mine: ${getGlobalDispatcher() === mine}, asked: ${asked}`);
