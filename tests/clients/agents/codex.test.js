// Codex: OpenAI's Responses, native and translated.

import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { KEY, NOTE, documented, packaged, run, workspace } from './harness.js';

const config = (model) => documented('toml').replace('"openai/gpt-5"', `"${model}"`);

// What OpenAI runs itself, or groups in namespaces, nobody else has.
const FUNCTIONS_ONLY = ['-c', 'web_search="disabled"', '--disable', 'multi_agent'];

const codex = (model, prompt, ...options) =>
  workspace(async ({ home, folder }) => {
    const settings = join(home, '.codex');
    await mkdir(settings);
    await writeFile(join(settings, 'config.toml'), config(model));
    return run(
      packaged('@openai/codex/bin/codex.js'),
      ['exec', '--skip-git-repo-check', '--json', ...options, prompt],
      { home, folder, env: { CODEX_HOME: settings, BROKLE_API_KEY: KEY } },
    );
  });

for (const [model, prompt, last, ...options] of [
  ['aimock/gpt-5', 'Read the note with exec_command.', 'I have read the note.'],
  ['echo/echo-1', 'call exec_command {"cmd":"cat note.txt"}', NOTE, ...FUNCTIONS_ONLY],
]) {
  test(`a turn with a tool, by ${model}`, async () => {
    const lines = await codex(model, prompt, ...options);
    const done = lines.filter(({ type }) => type === 'item.completed').map(({ item }) => item);
    const [ran] = done.filter(({ type }) => type === 'command_execution');
    assert.deepEqual([ran.exit_code, ran.aggregated_output.trim()], [0, NOTE]);
    const said = done.filter(({ type }) => type === 'agent_message').map(({ text }) => text);
    assert.equal(said.length, 1);
    assert.ok(said[0].includes(last), said[0]);
    assert.equal(lines.at(-1).type, 'turn.completed');
  });
}
