// Embeddings, legacy completions, the list of models.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { CONTENT, client, refused } from './harness.js';

const near = (a, b) => a.length === b.length && a.every((x, i) => Math.abs(x - b[i]) < 1e-6);

for (const model of ['openai/text-embedding-3-small', 'text-embedding-3-small', 'echo/echo-embedding']) {
  test(`${model}: embeddings`, async () => {
    const embed = async (parameters) => (await client.embeddings.create({ model, ...parameters })).data;
    const [floats] = await embed({ input: 'one two three', encoding_format: 'float' });
    // Unless told otherwise the client asks for base64 and decodes it.
    const [decoded] = await embed({ input: 'one two three' });
    assert.ok(near(decoded.embedding, floats.embedding));
    const [encoded] = await embed({ input: 'one two three', encoding_format: 'base64' });
    const bytes = Buffer.from(encoded.embedding, 'base64');
    assert.ok(near(Array.from({ length: bytes.length / 4 }, (_, n) => bytes.readFloatLE(4 * n)), floats.embedding));

    const batch = await embed({ input: ['one', 'one two three'] });
    assert.deepEqual(batch.map(({ index }) => index), [0, 1]);
    assert.ok(near(batch[1].embedding, floats.embedding));
    assert.ok(!near(batch[0].embedding, floats.embedding));
    assert.equal((await embed({ input: 'Hello!', dimensions: 16 }))[0].embedding.length, 16);
  });
}

for (const [model, expected] of [
  ['openai/gpt-3.5-turbo-instruct', CONTENT],
  ['echo/echo-1', 'one two three'],
]) {
  test(`${model}: legacy completions`, async () => {
    const body = { model, prompt: 'one two three' };
    const whole = await client.completions.create(body);
    assert.deepEqual([whole.object, whole.choices[0].text], ['text_completion', expected]);
    let text = '';
    for await (const chunk of await client.completions.create({ ...body, stream: true })) text += chunk.choices[0].text;
    assert.equal(text, expected);
  });
}

test('models', async () => {
  const models = new Map();
  for await (const model of client.models.list()) models.set(model.id, model);
  assert.equal(models.get('gpt-4o-mini').owned_by, 'openai');
  assert.equal(models.get('claude-haiku-4-5').owned_by, 'anthropic');
  assert.equal(models.get('echo-1').object, 'model');
  assert.equal((await client.models.retrieve('gpt-4o-mini')).id, 'gpt-4o-mini');
  assert.equal((await client.models.retrieve('echo/echo-1')).owned_by, 'echo');
  const error = await refused(OpenAI.NotFoundError, 404, () => client.models.retrieve('no-such-model'));
  assert.equal(error.code, 'model_not_found');
});
