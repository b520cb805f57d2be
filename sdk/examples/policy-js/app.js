// The cheapest candidate that answers fast enough.

import { value } from 'brokle:host/config@0.1.0';

// What holds where an operator set nothing; the schema is in plugin.json.
const MAX_FIRST_TOKEN_MS = 2_000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function describe() {
  return encoder.encode(JSON.stringify({ facts: ['available', 'input-price', 'output-price', 'first-token-ms'] }));
}

// What the schema can't say. This one could: it is here to show where such checks go.
export function checkConfig(config) {
  const { max_first_token_ms: bound = MAX_FIRST_TOKEN_MS } = JSON.parse(decoder.decode(config));
  if (!(bound > 0)) {
    // What is thrown is the error of the WIT function's result.
    throw [{ pointer: '/max_first_token_ms', message: 'Must be more than 0.' }];
  }
}

export function selfTest() {
  describe();
}

export const policy = {
  decide(request, candidates) {
    const set = value('/max_first_token_ms');
    const bound = set ? JSON.parse(decoder.decode(set)) : MAX_FIRST_TOKEN_MS;
    // Numbers of 64 bits come as BigInt.
    const input = Number(request.inputTokens);
    const output = Number(request.maxOutputTokens ?? 256n);
    // Dollars for a million calls like this one; unknown prices come after known ones.
    const cost = ({ inputPrice, outputPrice }) =>
      inputPrice == null || outputPrice == null ? Infinity : inputPrice * input + outputPrice * output;
    const slow = ({ stats }) => stats.firstTokenMs != null && stats.firstTokenMs > bound;
    const before = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    // The unavailable come last in any case, so that no request is refused while all are cooling down.
    const order = candidates
      .map((candidate, index) => ({ candidate, index }))
      .sort(
        ({ candidate: a }, { candidate: b }) =>
          Number(b.available) - Number(a.available) ||
          Number(slow(a)) - Number(slow(b)) ||
          before(cost(a), cost(b)) ||
          a.priority - b.priority,
      )
      .map(({ index }) => index);
    return { order: new Uint32Array(order), reason: 'cheapest that is fast enough' };
  },
};
