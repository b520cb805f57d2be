// What the headers tell, which provider answered, and what is kept of a call.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { CONTENT, api, client, eventually, read, trace, user } from './harness.js';

test('the headers of an answer', async () => {
  const body = { model: 'openai/gpt-4o-mini', messages: user('one two three') };
  const { data, response, request_id: id } = await client.chat.completions.create(body).withResponse();
  const head = response.headers;
  assert.equal(head.get('x-request-id'), id);
  assert.equal(data._request_id, id);
  assert.deepEqual(
    ['x-brokle-provider', 'x-brokle-model', 'x-brokle-attempts'].map((name) => head.get(name)),
    ['openai', 'gpt-4o-mini', '1'],
  );
  // Three tokens in, eight out, at $0.15 and $0.60 for a million.
  assert.equal(Number(head.get('x-brokle-cost')), 0.00000525);
  assert.ok(Number(head.get('x-ratelimit-limit-requests')) > Number(head.get('x-ratelimit-remaining-requests')));
  assert.match(head.get('x-ratelimit-reset-requests'), /^\d+m?s$/);
  assert.match(head.get('x-brokle-trace-id'), /^[0-9a-f]{32}$/);
});

test("the caller's request id is kept", async () => {
  const mine = randomUUID();
  const body = { model: 'echo/echo-1', messages: user('Hello!') };
  const answer = await client.chat.completions.create(body, { headers: { 'X-Request-Id': mine } });
  assert.equal(answer._request_id, mine);
});

// Models of this suite's own: a third failure in a row cools a candidate down, and it would no longer be asked first.
for (const [model, first] of [
  ['refused-first-node', 'refusing'],
  ['overloaded-first-node', 'overloaded'],
]) {
  for (const stream of [false, true]) {
    test(`failover: ${model}, ${stream ? 'streamed' : 'whole'}`, async () => {
      const body = { model, messages: user('Hello!'), stream };
      const { data, response } = await client.chat.completions.create(body).withResponse();
      assert.equal(stream ? (await read(data)).text : data.choices[0].message.content, CONTENT);
      assert.equal(response.headers.get('x-brokle-attempts'), '2');
      const { children } = await trace(response.headers.get('x-brokle-trace-id'));
      const attempts = children.filter((child) => child.type === 'attempt');
      assert.deepEqual(
        attempts.map((attempt) => [attempt.connection_id, attempt.status]),
        [
          [first, 'error'],
          ['backup', 'ok'],
        ],
      );
    });
  }
}

for (const stream of [false, true]) {
  test(`a call and its trace, ${stream ? 'streamed' : 'whole'}`, async () => {
    const session = randomUUID();
    const body = { model: 'openai/gpt-4o-mini', messages: user('one two three'), stream };
    const headers = { 'X-Brokle-User': 'user-1', 'X-Brokle-Session': session };
    const { data, response } = await client.chat.completions.create(body, { headers }).withResponse();
    if (stream) await read(data);
    const root = await trace(response.headers.get('x-brokle-trace-id'));
    assert.deepEqual([root.status, root.status_code, root.finish_reason], ['ok', 200, 'stop']);
    assert.deepEqual([root.usage.input, root.usage.output, root.usage.total], [3, 8, 11]);
    assert.equal(Number(root.cost), 0.00000525);
    assert.deepEqual([root.user, root.session, root.streaming], ['user-1', session, stream]);
    const { body: page } = await api(`/traces?session=${session}`);
    assert.deepEqual(page.data.map((row) => row.trace_id), [root.trace_id]);
  });
}

test("another project's key sees nothing", async () => {
  const session = randomUUID();
  const body = { model: 'echo/echo-1', messages: user('Hello!') };
  const call = client.chat.completions.create(body, { headers: { 'X-Brokle-Session': session } });
  const id = (await call.withResponse()).response.headers.get('x-brokle-trace-id');
  await eventually(async () => ((await api(`/traces?session=${session}`)).body.data.length === 1 ? true : undefined));
  assert.equal((await api(`/traces/${id}`)).status, 200);
  const other = process.env.BROKLE_OTHER_PROJECT_KEY;
  assert.equal((await api(`/traces/${id}`, other)).status, 404);
  assert.deepEqual((await api(`/traces?session=${session}`, other)).body.data, []);
});
