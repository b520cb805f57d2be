// Streams that break, clients that leave.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { CONTENT, Mark, client, read, trace, user } from './harness.js';

const SLOW = '!delay=100;events=300';
const open = (model, options) =>
  client.chat.completions.create({ model, messages: user('Hello!'), stream: true }, options).withResponse();

for (const model of ['misbehaving/gpt-4o-mini', 'misbehaving-claude/claude-haiku-4-5']) {
  // After the first token: what breaks before it is an answer with a status.
  for (const fault of ['error-in-stream=5', 'stall-after=4', 'reset-at=1500']) {
    test(`${model}!${fault} throws`, async () => {
      const { data } = await open(`${model}!${fault}`);
      let text = '';
      await assert.rejects(
        async () => {
          for await (const chunk of data) text += chunk.choices[0].delta.content ?? '';
        },
        (error) => error instanceof OpenAI.APIError && error.message.length > 0,
      );
      assert.ok(CONTENT.startsWith(text) && text !== CONTENT, text);
    });
  }

  for (const shape of ['crlf', 'cr', 'no-space', 'bom', 'comment-flood', 'split-utf8', 'after-done']) {
    test(`${model}!malformed-sse=${shape} is read all the same`, async () => {
      const { data } = await open(`${model}!malformed-sse=${shape}`);
      assert.equal((await read(data)).text, CONTENT);
    });
  }

  test(`${model}: a client that leaves a stream`, async () => {
    const mark = new Mark();
    const { data, response } = await open(model + SLOW, { headers: mark.headers });
    let text = '';
    for await (const chunk of data) {
      text += chunk.choices[0].delta.content ?? '';
      if (text.includes('🙂')) break;
    }
    await mark.waitUntilLeft();
    const aborted = await trace(response.headers.get('x-brokle-trace-id'));
    assert.deepEqual([aborted.status, aborted.status_code], ['aborted', 499]);
    assert.equal(aborted.error.class, 'client_disconnected');
  });
}

test('a call that is aborted by its signal', async () => {
  for (const stream of [false, true]) {
    const mark = new Mark();
    const controller = new AbortController();
    const body = { model: 'misbehaving/gpt-4o-mini!hang-head', messages: user('Hello!'), stream };
    const call = client.chat.completions.create(body, { signal: controller.signal, headers: mark.headers });
    const failed = assert.rejects(call, OpenAI.APIUserAbortError);
    while ((await mark.requests()).length === 0);
    controller.abort();
    await failed;
    await mark.waitUntilLeft();
  }
});

test('a client whose patience ends', async () => {
  const mark = new Mark();
  const body = { model: 'misbehaving/gpt-4o-mini!hang-head', messages: user('Hello!') };
  const call = client.chat.completions.create(body, { timeout: 500, headers: mark.headers });
  await assert.rejects(call, OpenAI.APIConnectionTimeoutError);
  await mark.waitUntilLeft();
});
