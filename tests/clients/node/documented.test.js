// The JavaScript of docs/clients.md.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { BROKLE_URL, KEY } from './harness.js';

const page = await readFile(new URL('../../../docs/clients.md', import.meta.url), 'utf8');
const pieces = [...page.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code);

test('the page has some', () => assert.equal(pieces.length, 5));

for (const [index, piece] of pieces.entries()) {
  test(`piece ${index + 1} says hello`, async () => {
    const code = piece.replaceAll('http://127.0.0.1:8080', BROKLE_URL).replaceAll('bk_…', KEY);
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], {
      cwd: import.meta.dirname,
    });
    assert.equal(stdout, 'Hello!\n');
  });
}
