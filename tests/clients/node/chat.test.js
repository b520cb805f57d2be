// Chat completions that go well.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CONTENT, Mark, client, read, user } from './harness.js';

/** Each way to a provider, and what it answers to "Hello!". */
const ROUTES = {
  'gpt-4o-mini': CONTENT,
  'openai/gpt-4o-mini': CONTENT,
  'aimock/gpt-4o-mini': 'Hello! How can I help you today?',
  'anthropic/claude-haiku-4-5': 'Hello! How can I help you today?',
  'misbehaving-claude/claude-haiku-4-5': CONTENT,
  'echo/echo-1': 'Hello!',
  'echo-1': 'Hello!',
};

for (const [model, expected] of Object.entries(ROUTES)) {
  test(`${model}: whole, streamed and streamed with usage say the same`, async () => {
    const whole = await client.chat.completions.create({ model, messages: user('Hello!') });
    assert.equal(whole.object, 'chat.completion');
    assert.equal(whole.model, model.split('/').at(-1));
    assert.deepEqual([whole.choices[0].message.content, whole.choices[0].finish_reason], [expected, 'stop']);
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);

    const plain = await read(await client.chat.completions.create({ model, messages: user('Hello!'), stream: true }));
    assert.equal(plain.text, expected);
    assert.equal(plain.chunks[0].choices[0].delta.role, 'assistant');
    // Usage only for those who ask, although the gateway itself always asks.
    assert.ok(plain.chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage));

    const counted = await read(
      await client.chat.completions.create({
        model,
        messages: user('Hello!'),
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
    assert.equal(counted.text, expected);
    const last = counted.chunks.pop();
    assert.deepEqual(last.choices, []);
    assert.equal(last.usage.total_tokens, whole.usage.total_tokens);
    assert.ok(counted.chunks.every((chunk) => !chunk.usage));
  });
}

test("the client's own stream helper", async () => {
  const runner = client.chat.completions.stream({ model: 'gpt-4o-mini', messages: user('Hello!') });
  let text = '';
  runner.on('content', (delta) => (text += delta));
  const final = await runner.finalChatCompletion();
  assert.equal(text, CONTENT);
  assert.equal(final.choices[0].message.content, CONTENT);
});

test('many calls at once each get their own answer', async () => {
  const texts = Array.from({ length: 40 }, (_, n) => `number ${n} of many`);
  const ask = async (text, n) => {
    const body = { model: 'echo/echo-1', messages: user(text) };
    if (n % 2) return (await read(await client.chat.completions.create({ ...body, stream: true }))).text;
    return (await client.chat.completions.create(body)).choices[0].message.content;
  };
  assert.deepEqual(await Promise.all(texts.map(ask)), texts);
});

test('n, stop, seed and limits', async () => {
  const ask = async (parameters) => {
    const body = { model: 'echo/echo-1', messages: user('one two three'), ...parameters };
    const { choices } = await client.chat.completions.create(body);
    return choices.map((choice) => [choice.message.content.trim(), choice.finish_reason]);
  };
  assert.deepEqual(await ask({ n: 2 }), Array(2).fill(['one two three', 'stop']));
  assert.deepEqual(await ask({ stop: 'three' }), [['one two', 'stop']]);
  assert.deepEqual(await ask({ stop: ['three', 'two'] }), [['one', 'stop']]);
  assert.deepEqual(await ask({ max_tokens: 1 }), [['one', 'length']]);
  assert.deepEqual(await ask({ seed: 7 }), await ask({ seed: 8 }));
});

test('what the gateway does not know reaches the provider', async () => {
  const mark = new Mark();
  const body = {
    messages: user('Hello!'),
    n: 1,
    stop: ['END'],
    seed: 7,
    temperature: 0.25,
    logit_bias: { 50256: -100 },
    x_new_parameter: { deep: [1, 2.5, null, 'é'] },
  };
  await client.chat.completions.create({ model: 'openai/gpt-4o-mini', ...body }, { headers: mark.headers });
  assert.deepEqual(await mark.bodies(), [{ model: 'gpt-4o-mini', ...body }]);
});

const IMAGE = [
  { type: 'text', text: 'What is in the picture?' },
  { type: 'image_url', image_url: { url: 'data:image/png;base64,iVBORw0KGgo=' } },
];

for (const [model, expected] of [
  ['openai/gpt-4o-mini', CONTENT],
  ['anthropic/claude-haiku-4-5', 'A red dot.'],
  ['echo/echo-1', 'What is in the picture?\n[image]'],
]) {
  test(`${model}: images`, async () => {
    const answer = await client.chat.completions.create({ model, messages: user(IMAGE) });
    assert.equal(answer.choices[0].message.content, expected);
  });
}

const CITY = {
  type: 'json_schema',
  json_schema: {
    name: 'city',
    strict: true,
    schema: {
      type: 'object',
      properties: { name: { type: 'string' }, population: { type: 'integer' } },
      required: ['name', 'population'],
      additionalProperties: false,
    },
  },
};

for (const model of ['echo/echo-1', 'aimock/gpt-4o-mini', 'anthropic/claude-haiku-4-5']) {
  test(`${model}: an answer that fits a schema`, async () => {
    const body = { model, messages: user('a city as JSON'), response_format: CITY };
    const { parsed } = (await client.chat.completions.parse(body)).choices[0].message;
    assert.deepEqual(Object.keys(parsed).sort(), ['name', 'population']);
    if (model !== 'echo/echo-1') assert.deepEqual(parsed, { name: 'Paris', population: 2_100_000 });
  });
}

test('a large answer, whole and streamed', async () => {
  const body = { model: 'misbehaving/gpt-4o-mini!large-body=3000000', messages: user('Hello!') };
  const whole = (await client.chat.completions.create(body)).choices[0].message.content;
  const { text } = await read(await client.chat.completions.create({ ...body, stream: true }));
  assert.equal(Buffer.byteLength(whole), 3_000_000);
  assert.ok(text === whole);
});
