// Vercel's AI SDK, by each of its ways here: Chat Completions, Responses, Messages.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { APICallError, RetryError, Output, embedMany, generateText, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';

import { BROKLE_URL, KEY, Mark, trace } from './harness.js';

const settings = (apiKey, more) => ({ baseURL: `${BROKLE_URL}/v1`, apiKey, ...more });
const openai = (apiKey, more) => createOpenAI(settings(apiKey, more));
const compatible = (apiKey, more) =>
  createOpenAICompatible({ name: 'brokle', includeUsage: true, supportsStructuredOutputs: true, ...settings(apiKey, more) });

const WAYS = {
  chat: (model, apiKey = KEY, more = {}) => openai(apiKey, more).chat(model),
  responses: (model, apiKey = KEY, more = {}) => openai(apiKey, more).responses(model),
  compatible: (model, apiKey = KEY, more = {}) => compatible(apiKey, more)(model),
  messages: (model, apiKey = KEY, more = {}) => createAnthropic(settings(apiKey, more))(model),
};
// The SDK asks OpenAI to keep its responses unless it is told otherwise; a model that is translated for keeps none.
const options = { maxRetries: 0, maxOutputTokens: 100, providerOptions: { openai: { store: false } } };
const NATIVE = {
  chat: 'aimock/gpt-4o-mini',
  responses: 'aimock/gpt-4o-mini',
  compatible: 'aimock/gpt-4o-mini',
  messages: 'anthropic/claude-haiku-4-5',
};
const City = z.object({ name: z.string(), population: z.number() });
const tools = {
  get_weather: tool({
    description: 'The weather.',
    inputSchema: z.object({ city: z.string() }),
    execute: async () => '18°C and sunny',
  }),
  get_time: tool({ description: 'The time.', inputSchema: z.object({ zone: z.string() }), execute: async () => '12:00' }),
};
const TWO = 'call get_weather {"city":"Paris"}\ncall get_time {"zone":"CET"}';

const refused = async (make) => {
  const error = await Promise.resolve().then(make).then(() => assert.fail('the call succeeded'), (thrown) => thrown);
  return RetryError.isInstance(error) ? error.lastError : error;
};

for (const [way, make] of Object.entries(WAYS)) {
  test(`${way}: a stream is what the whole answer is`, async () => {
    const asked = { model: make('echo/echo-1'), system: 'Be brief.', prompt: 'one two three', ...options };
    const whole = await generateText(asked);
    const streamed = streamText(asked);
    const pieces = [];
    for await (const piece of streamed.textStream) pieces.push(piece);
    assert.ok(pieces.length > 1);
    assert.equal(pieces.join(''), whole.text);
    assert.equal(whole.text, 'one two three');
    assert.deepEqual([whole.finishReason, await streamed.finishReason], ['stop', 'stop']);
    assert.deepEqual([whole.usage.outputTokens, (await streamed.usage).outputTokens], [3, 3]);
  });

  for (const model of ['echo/echo-1', NATIVE[way]]) {
    test(`${way}: two tools at once, there and back, by ${model}`, async () => {
      const asked = { model: make(model), tools, prompt: TWO, stopWhen: stepCountIs(3), ...options };
      for (const result of [await generateText(asked), streamText(asked)]) {
        const [first, second] = await result.steps;
        assert.deepEqual(
          first.toolCalls.map(({ toolName, input }) => [toolName, input]),
          [
            ['get_weather', { city: 'Paris' }],
            ['get_time', { zone: 'CET' }],
          ],
        );
        assert.equal(first.finishReason, 'tool-calls');
        assert.equal(second.text, '18°C and sunny\n12:00');
      }
    });
  }

  test(`${way}: an answer by schema`, async () => {
    const asked = { output: Output.object({ schema: City }), prompt: 'a city as JSON', ...options };
    const { output } = await generateText({ model: make('echo/echo-1'), ...asked });
    assert.deepEqual(Object.keys(output).sort(), ['name', 'population']);
    const streamed = streamText({ model: make('aimock/gpt-4o-mini'), ...asked });
    assert.deepEqual(await streamed.output, { name: 'Paris', population: 2_100_000 });
  });

  test(`${way}: an image in`, async () => {
    const image = { type: 'image', image: Buffer.from('89504e470d0a1a0a', 'hex'), mediaType: 'image/png' };
    const messages = [{ role: 'user', content: [{ type: 'text', text: 'What is in the picture?' }, image] }];
    const { text } = await generateText({ model: make('aimock/gpt-4o-mini'), messages, ...options });
    assert.equal(text, 'A red dot.');
  });

  test(`${way}: errors`, async () => {
    for (const [model, key, status, retryable] of [
      ['echo/echo-1', `bk_${'x'.repeat(40)}`, 401, false],
      ['nobody/x', KEY, 404, false],
      ['misbehaving-claude/claude-haiku-4-5!status=400', KEY, 400, false],
      ['misbehaving-claude/claude-haiku-4-5!status=429', KEY, 429, true],
    ]) {
      const error = await refused(() => generateText({ model: make(model, key), prompt: 'x', ...options }));
      assert.ok(APICallError.isInstance(error), String(error.stack));
      assert.deepEqual([error.statusCode, error.isRetryable], [status, retryable]);
      assert.ok(error.data?.error?.message, 'it read the error as what it knows');
    }
  });

  test(`${way}: a stream that dies`, async () => {
    // A name for each way: failures add up against a name, and then its circuit opens.
    const model = make(`misbehaving-claude/claude-haiku-4-5!close-at=1500;events=${50 + way.length}`);
    const parts = [];
    const { fullStream } = streamText({ model, prompt: 'x', onError: () => {}, ...options });
    for await (const part of fullStream) parts.push(part);
    const failed = parts.find(({ type }) => type === 'error');
    assert.match(JSON.stringify(failed.error) + failed.error.message, /connection broke/);
    assert.ok(parts.some(({ type }) => type === 'text-delta'));
  });

  test(`${way}: a caller that leaves frees the upstream`, async () => {
    const mark = new Mark();
    const model = make('misbehaving-claude/claude-haiku-4-5!delay=100;events=300', KEY, { headers: mark.headers });
    const controller = new AbortController();
    const { fullStream } = streamText({ model, prompt: 'x', abortSignal: controller.signal, ...options });
    for await (const part of fullStream) {
      if (part.type === 'text-delta') controller.abort();
    }
    await mark.waitUntilLeft();
  });
}

test('embeddings, by both ways', async () => {
  for (const provider of [openai(KEY), compatible(KEY)]) {
    const model = provider.embeddingModel('openai/text-embedding-3-small');
    const { embeddings, usage } = await embedMany({ model, values: ['a b', 'c d', 'a b'], maxRetries: 0 });
    assert.deepEqual(embeddings[0], embeddings[2]);
    assert.notDeepEqual(embeddings[0], embeddings[1]);
    assert.ok(usage.tokens > 0);
  }
});

test('its telemetry', async () => {
  const exporter = new OTLPTraceExporter({ url: `${BROKLE_URL}/v1/traces`, headers: { authorization: `Bearer ${KEY}` } });
  const provider = new NodeTracerProvider({ spanProcessors: [new BatchSpanProcessor(exporter)] });
  provider.register();
  const telemetry = { isEnabled: true, functionId: 'plan-a-trip', metadata: { userId: 'u-1' }, tracer: provider.getTracer('ai') };
  const [id, first, last] = await provider.getTracer('test').startActiveSpan('trip', async (span) => {
    const asked = { model: WAYS.chat('echo/echo-1'), tools, prompt: TWO, stopWhen: stepCountIs(3), ...options };
    const { steps } = await generateText({ ...asked, experimental_telemetry: telemetry });
    span.end();
    return [span.spanContext().traceId, ...steps];
  });
  await provider.shutdown();
  const root = await trace(id);
  const kinds = (spans) => spans.map(({ name, type }) => [name, type]);
  assert.deepEqual(kinds(root.children), [['ai.generateText', 'chain']]);
  const [run] = root.children;
  assert.equal(run.user, 'u-1');
  assert.deepEqual(kinds(run.children), [
    ['ai.generateText.doGenerate', 'generation'],
    ['ai.toolCall', 'tool'],
    ['ai.toolCall', 'tool'],
    ['ai.generateText.doGenerate', 'generation'],
  ]);
  const [asked, , , answered] = run.children;
  assert.deepEqual([asked.model, asked.finish_reason, answered.finish_reason], ['echo/echo-1', 'tool-calls', 'stop']);
  assert.deepEqual([asked.usage.input, answered.usage.output], [first.usage.inputTokens, last.usage.outputTokens]);
});
