// The actors and the helpers. ../run.sh starts what they talk to and sets the environment.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';

export const BROKLE_URL = process.env.BROKLE_URL;
export const UPSTREAM_URL = process.env.UPSTREAM_URL;
export const KEY = process.env.BROKLE_API_KEY;

/** What test-upstream answers to everything. */
export const CONTENT = 'Héllo 漢字 🙂 from the test upstream.';

/** A client that doesn't try again by itself, so that each test sees each answer. */
export function makeClient(apiKey = KEY, options = {}) {
  return new OpenAI({ baseURL: `${BROKLE_URL}/v1`, apiKey, maxRetries: 0, ...options });
}

export const client = makeClient();

export const user = (content) => [{ role: 'user', content }];

/** A stream's text and its chunks. */
export async function read(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return { text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), chunks };
}

/** What `found` resolves to as soon as it isn't undefined. */
export async function eventually(found, milliseconds = 15_000) {
  const deadline = performance.now() + milliseconds;
  for (;;) {
    const value = await found();
    if (value !== undefined) return value;
    assert.ok(performance.now() < deadline, `not within ${milliseconds} ms`);
    await sleep(20);
  }
}

/** `GET /api/v1…`: status and JSON. */
export async function api(path, key = KEY) {
  const answer = await fetch(`${BROKLE_URL}/api/v1${path}`, { headers: { authorization: `Bearer ${key}` } });
  return { status: answer.status, body: await answer.json() };
}

/** A trace, as soon as it is stored: its only root. */
export async function trace(id) {
  const observations = await eventually(async () => {
    const { status, body } = await api(`/traces/${id}`);
    return status === 200 ? body.observations : undefined;
  });
  assert.equal(observations.length, 1);
  return observations[0];
}

/** A header that the gateway passes on to the provider, to find a test's requests there. */
export class Mark {
  #value = randomUUID();

  get headers() {
    return { 'x-test-mark': this.#value };
  }

  async requests() {
    const { requests } = await (await fetch(`${UPSTREAM_URL}/__requests`)).json();
    return requests.filter(({ headers }) => headers.some(([name, value]) => name === 'x-test-mark' && value === this.#value));
  }

  async bodies() {
    return (await this.requests()).map((request) => request.body);
  }

  /** The upstream has noticed that its one caller left. */
  async waitUntilLeft(milliseconds = 1000) {
    const end = await eventually(async () => {
      const requests = await this.requests();
      assert.equal(requests.length, 1);
      return requests[0].end ?? undefined;
    }, milliseconds);
    assert.equal(end.outcome, 'client-left');
  }
}

/** The error that a call fails with, which must be of exactly this class and status. */
export async function refused(kind, status, make) {
  const error = await Promise.resolve()
    .then(make)
    .then(() => assert.fail('the call succeeded'), (thrown) => thrown);
  assert.equal(error.constructor, kind, String(error.stack));
  assert.equal(error.status, status);
  assert.ok(error.requestID);
  assert.ok(error.error.message);
  return error;
}
