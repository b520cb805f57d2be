// Each failure is the exception that the client has for it, and says what a caller needs to mend it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { CONTENT, client, makeClient, refused, user } from './harness.js';

const chat = (it, model = 'echo/echo-1', parameters = {}) =>
  it.chat.completions.create({ model, messages: user('Hello!'), ...parameters });

test('a key that is none', async () => {
  for (const key of [`bk_${'x'.repeat(40)}`, 'sk-something-else']) {
    const error = await refused(OpenAI.AuthenticationError, 401, () => chat(makeClient(key)));
    assert.deepEqual([error.code, error.type], ['invalid_api_key', 'authentication_error']);
    assert.ok(!error.message.includes(key));
  }
});

test('a key without the scope', async () => {
  const reader = makeClient(process.env.BROKLE_READ_ONLY_KEY);
  const error = await refused(OpenAI.PermissionDeniedError, 403, () => chat(reader));
  assert.equal(error.code, 'insufficient_scope');
});

test('a key beyond its own limit', async () => {
  const limited = makeClient(process.env.BROKLE_LIMITED_KEY_NODE);
  await chat(limited);
  const error = await refused(OpenAI.RateLimitError, 429, () => chat(limited));
  assert.equal(error.code, 'rate_limit_exceeded');
  const wait = Number(error.headers.get('retry-after'));
  assert.ok(wait > 0 && wait <= 60, String(wait));
});

test('a model that is none', async () => {
  const error = await refused(OpenAI.NotFoundError, 404, () => chat(client, 'no-such-model'));
  assert.deepEqual([error.code, error.param], ['model_not_found', 'model']);
});

for (const [body, param] of [
  [{ model: 'echo/echo-1' }, 'messages'],
  [{ messages: user('Hello!') }, 'model'],
  [{ model: 'echo/echo-1', messages: user('Hello!'), temperature: 'hot' }, 'temperature'],
]) {
  test(`a request whose ${param} is wrong`, async () => {
    const error = await refused(OpenAI.BadRequestError, 400, () => client.post('/chat/completions', { body }));
    assert.deepEqual([error.param, error.type], [param, 'invalid_request_error']);
  });
}

for (const [status, kind] of [
  [400, OpenAI.BadRequestError],
  [404, OpenAI.NotFoundError],
  [429, OpenAI.RateLimitError],
  [500, OpenAI.InternalServerError],
  [502, OpenAI.InternalServerError],
]) {
  test(`the provider's ${status}, whole and streamed`, async () => {
    for (const stream of [false, true]) {
      await refused(kind, status, () => chat(client, `misbehaving/gpt-4o-mini!status=${status}`, { stream }));
    }
  });
}

for (const model of ['misbehaving/gpt-4o-mini', 'misbehaving-claude/claude-haiku-4-5']) {
  test(`${model}: how long to wait is passed on`, async () => {
    const make = () => chat(client, `${model}!status=429;retry-after=7`);
    const error = await refused(OpenAI.RateLimitError, 429, make);
    assert.equal(error.headers.get('retry-after'), '7');
  });
}

test('an upstream that breaks or does not answer', async () => {
  await refused(OpenAI.InternalServerError, 502, () => chat(client, 'misbehaving/gpt-4o-mini!refuse'));
  await refused(OpenAI.InternalServerError, 502, () => chat(client, 'misbehaving/gpt-4o-mini!close-at=100'));
  const error = await refused(OpenAI.InternalServerError, 504, () => chat(client, 'misbehaving/gpt-4o-mini!hang-head'));
  assert.equal(error.code, 'upstream_timeout');
});

test("the client's own retry", async () => {
  // node runs the files at the same time, so the faults are in the names and not in the upstream's script.
  const seen = [];
  const fetchOnce = async (url, init) => {
    const body = JSON.parse(init.body);
    if (seen.length === 0) body.model += '!status=429;retry-after=1';
    if (seen.length === 1) body.model += '!status=500';
    const answer = await fetch(url, { ...init, body: JSON.stringify(body) });
    seen.push(answer.status);
    return answer;
  };
  const patient = makeClient(undefined, { maxRetries: 2, fetch: fetchOnce });
  const answer = await chat(patient, 'misbehaving/gpt-4o-mini');
  assert.equal(answer.choices[0].message.content, CONTENT);
  assert.deepEqual(seen, [429, 500, 200]);
});
