// Tools: one call, several at once, streamed, and the way back.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { client, user } from './harness.js';

const tool = (name, parameter) => ({
  type: 'function',
  function: {
    name,
    parameters: { type: 'object', properties: { [parameter]: { type: 'string' } }, required: [parameter] },
  },
});
const tools = [tool('get_weather', 'city'), tool('get_time', 'zone')];
const ONE = 'call get_weather {"city":"Paris"}';
const TWO = `${ONE}\ncall get_time {"zone":"CET"}`;
const RESULTS = { get_weather: '18°C and sunny', get_time: '12:00' };
const CALLS = [
  ['get_weather', { city: 'Paris' }],
  ['get_time', { zone: 'CET' }],
];
const wanted = (calls) => calls.map(({ function: it }) => [it.name, JSON.parse(it.arguments)]);

for (const model of ['echo/echo-1', 'aimock/gpt-4o-mini', 'anthropic/claude-haiku-4-5']) {
  for (const [prompt, calls, final] of [
    [ONE, CALLS.slice(0, 1), '18°C and sunny'],
    [TWO, CALLS, '18°C and sunny\n12:00'],
  ]) {
    test(`${model}: the round trip with ${calls.length}`, async () => {
      const messages = user(prompt);
      const [first] = (await client.chat.completions.create({ model, messages, tools })).choices;
      assert.equal(first.finish_reason, 'tool_calls');
      assert.deepEqual(wanted(first.message.tool_calls), calls);
      assert.equal(new Set(first.message.tool_calls.map(({ id }) => id)).size, calls.length);

      messages.push(first.message);
      for (const { id, function: it } of first.message.tool_calls) {
        messages.push({ role: 'tool', tool_call_id: id, content: RESULTS[it.name] });
      }
      const [second] = (await client.chat.completions.create({ model, messages, tools })).choices;
      assert.deepEqual([second.message.content, second.finish_reason], [final, 'stop']);
    });
  }

  test(`${model}: streamed calls add up`, async () => {
    const runner = client.chat.completions.stream({ model, messages: user(TWO), tools });
    const [choice] = (await runner.finalChatCompletion()).choices;
    assert.equal(choice.finish_reason, 'tool_calls');
    assert.deepEqual(wanted(choice.message.tool_calls), CALLS);
  });
}

test('the client runs tools by itself', async () => {
  const asked = [];
  const runner = client.chat.completions.runTools({
    model: 'aimock/gpt-4o-mini',
    messages: user(ONE),
    tools: [
      {
        type: 'function',
        function: {
          name: 'get_weather',
          parameters: tools[0].function.parameters,
          parse: JSON.parse,
          function: ({ city }) => {
            asked.push(city);
            return RESULTS.get_weather;
          },
        },
      },
    ],
  });
  assert.equal(await runner.finalContent(), '18°C and sunny');
  assert.deepEqual(asked, ['Paris']);
});

test('parallel_tool_calls and tool_choice', async () => {
  const names = async (parameters) => {
    const body = { model: 'echo/echo-1', tools, ...parameters };
    const { tool_calls: calls } = (await client.chat.completions.create(body)).choices[0].message;
    return (calls ?? []).map(({ function: it }) => it.name);
  };
  assert.deepEqual(await names({ messages: user(TWO), parallel_tool_calls: false }), ['get_weather']);
  assert.deepEqual(await names({ messages: user(ONE), tool_choice: 'none' }), []);
  const named = { type: 'function', function: { name: 'get_time' } };
  assert.deepEqual(await names({ messages: user('Hello!'), tool_choice: named }), ['get_time']);
});
