// Claude Code: Anthropic's Messages, native and translated.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NOTE, documented, packaged, run, workspace } from './harness.js';

const env = Object.fromEntries([...documented('sh').matchAll(/^export (.*?)=(.*)$/gm)].map(([, name, value]) => [name, value]));

const claude = (model, prompt) =>
  workspace(({ home, folder }) =>
    run(
      packaged('@anthropic-ai/claude-code/cli-wrapper.cjs'),
      ['-p', prompt, '--model', model, '--allowedTools', 'Bash(cat note.txt)', '--output-format', 'stream-json', '--verbose'],
      { home, folder, env },
    ),
  );

const blocks = (lines) => lines.flatMap(({ message }) => (Array.isArray(message?.content) ? message.content : []));

// The mock refuses a turn whose thinking doesn't come back, or comes back unsigned.
for (const [model, prompt, last] of [
  ['anthropic/claude-haiku-4-5', 'Read the note with Bash.', 'I have read the note.'],
  ['echo/echo-1', 'call Bash {"command":"cat note.txt"}', NOTE],
]) {
  test(`a turn with a tool, by ${model}`, async () => {
    const lines = await claude(model, prompt);
    const all = blocks(lines);
    const used = all.filter(({ type }) => type === 'tool_use');
    const results = all.filter(({ type }) => type === 'tool_result');
    assert.deepEqual(used.map(({ name, input }) => [name, input.command]), [['Bash', 'cat note.txt']]);
    assert.deepEqual(results.map(({ tool_use_id: id, content }) => [id, content]), [[used[0].id, NOTE]]);
    const end = lines.at(-1);
    assert.deepEqual([end.type, end.is_error, end.result], ['result', false, last]);
  });
}
