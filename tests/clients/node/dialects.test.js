// Dialects: Anthropic's own client, and client.responses.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';

import { BROKLE_URL, CONTENT, KEY, client, user } from './harness.js';

const claude = (apiKey = KEY) => new Anthropic({ baseURL: BROKLE_URL, apiKey, maxRetries: 0 });
const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const CALL = 'call get_weather {"city":"Paris"}';

for (const [model, text] of [
  ['openai/gpt-4o-mini', CONTENT],
  ['echo/echo-1', 'Hello!'],
  ['anthropic/claude-haiku-4-5', 'Hello! How can I help you today?'],
]) {
  test(`messages of ${model}, whole and streamed`, async () => {
    const asked = { model, max_tokens: 100, messages: user('Hello!') };
    const whole = await claude().messages.create(asked);
    assert.equal(whole.content.map((block) => block.text).join(''), text);
    const streamed = await claude().messages.stream(asked).finalMessage();
    assert.deepEqual(streamed.content.map((block) => block.text), [text]);
    assert.equal(streamed.stop_reason, whole.stop_reason);
  });
}

for (const model of ['echo/echo-1', 'anthropic/claude-haiku-4-5']) {
  test(`a tool of ${model}, there and back`, async () => {
    const tools = [{ name: 'get_weather', description: 'The weather.', input_schema: schema }];
    const messages = user(CALL);
    const first = await claude().messages.stream({ model, max_tokens: 100, messages, tools }).finalMessage();
    const used = first.content.find((block) => block.type === 'tool_use');
    assert.deepEqual([first.stop_reason, used.name, used.input], ['tool_use', 'get_weather', { city: 'Paris' }]);
    const result = { type: 'tool_result', tool_use_id: used.id, content: '18°C and sunny' };
    messages.push({ role: 'assistant', content: first.content }, { role: 'user', content: [result] });
    const last = await claude().messages.create({ model, max_tokens: 100, messages, tools });
    assert.equal(last.content[0].text, '18°C and sunny');
  });
}

test('errors have the form of each dialect', async () => {
  await assert.rejects(claude('bk_unknown').messages.create({ model: 'echo/echo-1', max_tokens: 5, messages: user('x') }), (error) => {
    assert.ok(error instanceof Anthropic.AuthenticationError);
    assert.equal(error.error.error.type, 'authentication_error');
    return true;
  });
  await assert.rejects(client.responses.create({ model: 'echo/echo-1', input: 'x', store: true }), (error) => {
    assert.deepEqual([error.status, error.code, error.param], [400, 'unsupported', 'store']);
    return true;
  });
});

for (const [model, text] of [
  ['echo/echo-1', 'Hello!'],
  ['aimock/gpt-4o-mini', 'Hello! How can I help you today?'],
]) {
  test(`responses of ${model}, whole and streamed`, async () => {
    const whole = await client.responses.create({ model, input: 'Hello!' });
    assert.equal(whole.output_text, text);
    const stream = client.responses.stream({ model, input: 'Hello!' });
    const kinds = [];
    for await (const event of stream) kinds.push(event.type);
    assert.equal(kinds[0], 'response.created');
    assert.equal(kinds.at(-1), 'response.completed');
    assert.equal((await stream.finalResponse()).output_text, text);
  });
}
