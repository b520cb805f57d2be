// An agent's home, its folder with one file in it, and a proxy that lets nothing through.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const BROKLE_URL = process.env.BROKLE_URL;
export const KEY = process.env.BROKLE_API_KEY;
export const NOTE = 'the password is swordfish';

const page = await readFile(new URL('../../../docs/clients.md', import.meta.url), 'utf8');

/** The only piece of docs/clients.md in this language, with this run's address and key. */
export function documented(language) {
  const pieces = [...page.matchAll(new RegExp('^```' + language + '\\n(.*?)^```$', 'gms'))];
  assert.equal(pieces.length, 1);
  return pieces[0][1].replaceAll('http://127.0.0.1:8080', BROKLE_URL).replaceAll('bk_…', KEY);
}

/** A file of the packages that are installed here. */
export const packaged = (path) => fileURLToPath(new URL(`node_modules/${path}`, import.meta.url));

/** Runs `use` in a folder that holds `note.txt`, beside an empty `home`. */
export async function workspace(use) {
  const home = await mkdtemp(join(tmpdir(), 'brokle-agent-home-'));
  const folder = await mkdtemp(join(tmpdir(), 'brokle-agent-'));
  try {
    await writeFile(join(folder, 'note.txt'), `${NOTE}\n`);
    return await use({ home, folder });
  } finally {
    for (const it of [home, folder]) await rm(it, { recursive: true, force: true });
  }
}

/**
 * Runs an agent to its end, without a terminal and with nothing of this process's environment but the path. Whatever it
 * asks of another address than loopback goes to a proxy that answers 403: nothing may.
 *
 * Gives the JSON lines that it wrote.
 */
export async function run(script, args, { home, folder, env }) {
  const elsewhere = [];
  const proxy = createServer((request, response) => {
    elsewhere.push(`${request.method} ${request.url}`);
    response.writeHead(403).end();
  });
  proxy.on('connect', (request, socket) => {
    elsewhere.push(`CONNECT ${request.url}`);
    socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const dead = `http://127.0.0.1:${proxy.address().port}`;
  const child = spawn(process.execPath, [script, ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH, HOME: home, HTTPS_PROXY: dead, HTTP_PROXY: dead, ALL_PROXY: dead, NO_PROXY: '127.0.0.1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
  });
  const written = { lines: '', errors: '' };
  child.stdout.setEncoding('utf8').on('data', (text) => (written.lines += text));
  child.stderr.setEncoding('utf8').on('data', (text) => (written.errors += text));
  const code = await new Promise((resolve) => child.on('close', resolve));
  proxy.closeAllConnections();
  await new Promise((resolve) => proxy.close(resolve));
  assert.equal(code, 0, `${written.lines}\n${written.errors}`);
  assert.deepEqual(elsewhere, []);
  return written.lines.trim().split('\n').map((line) => JSON.parse(line));
}
