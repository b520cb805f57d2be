// Each batch of observations as lines of JSON, one observation a line.

import { value } from 'brokle:host/config@0.1.0';
import { send } from 'brokle:host/http@0.1.0';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// How often a batch is tried that the receiver answers with an error of its own.
const MAX_ATTEMPTS = 10;

export function describe() {
  return encoder.encode('{}');
}

// The schema in plugin.json says all there is to say.
export function checkConfig() {}

export function selfTest() {
  if (outcome(503, 1)?.tag !== 'retry') {
    throw { kind: { tag: 'upstream' }, message: 'a busy receiver was misunderstood' };
  }
}

// What an answer says of a batch. 2xx: the receiver has it. 429 and the like: again later. 400: never.
function outcome(status, attempt, after = '') {
  if (status >= 200 && status < 300) {
    return undefined;
  }
  const reason = `the receiver answered ${status}`;
  const later = [401, 403, 404, 408, 425, 429, 502, 503, 504].includes(status);
  if (later || (status >= 500 && attempt < MAX_ATTEMPTS)) {
    const afterMs = /^[0-9]{1,7}$/.test(after) ? BigInt(after) * 1000n : undefined;
    return { tag: 'retry', val: { reason, afterMs } };
  }
  return { tag: 'refused', val: reason };
}

// What a request without an answer says: again, unless it can't be sent as it is.
function unsent({ tag, val }) {
  switch (tag) {
    case 'request-too-large':
      return { tag: 'refused', val: `it has more than ${val} bytes` };
    case 'invalid':
      return { tag: 'misconfigured', val };
    case 'denied':
      return { tag: 'misconfigured', val: `not granted: ${val}` };
    default:
      return { tag: 'retry', val: { reason: 'no answer' } };
  }
}

function lines(observations) {
  const body = new Uint8Array(observations.reduce((length, { byteLength }) => length + byteLength + 1, 0));
  let at = 0;
  for (const observation of observations) {
    body.set(observation, at);
    at += observation.byteLength;
    body[at++] = 0x0a;
  }
  return body;
}

export const sink = {
  export(batch) {
    const path = value('/path');
    const request = {
      upstream: 'receiver',
      method: 'POST',
      path: path ? JSON.parse(decoder.decode(path)) : '/',
      headers: [
        { name: 'content-type', value: 'application/x-ndjson' },
        // The same when the batch comes again: what the receiver tells a repetition by.
        { name: 'idempotency-key', value: batch.id },
      ],
      // The host puts the secret in; nobody here sees it.
      credential: { tag: 'bearer', val: 'token' },
      body: lines(batch.observations),
    };
    let response;
    try {
      response = send(request);
    } catch (error) {
      throw unsent(error.payload);
    }
    const after = response.headers.find(({ name }) => name === 'retry-after')?.value;
    const failure = outcome(response.status, batch.attempt, after);
    if (failure) {
      throw failure;
    }
    return { rejected: 0, message: '' };
  },
};
