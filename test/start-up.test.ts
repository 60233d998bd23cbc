import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { execute } from './support/execute.ts';
import { MAIN } from './support/potstill.ts';

const ROOT = join(import.meta.dirname, '..');

/** Files of JavaScript that a command line loads, from the repository's root on; Node says so to whom it reports coverage. */
async function loadedBy(...words: string[]): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'potstill-start-'));
  try {
    const { code, stderr } = await execute(
      'env',
      [`NODE_V8_COVERAGE=${folder}`, process.execPath, MAIN, ...words],
      ROOT,
    );
    expect(code, stderr).toBe(0);
    return readdirSync(folder)
      .flatMap((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')).result)
      .map(({ url }: { url: string }) => url)
      .filter((url) => url.startsWith('file:'))
      .map((url) => relative(ROOT, fileURLToPath(url)));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Rooms under `dist/`, and packages, that files belong to. */
function roomsOf(files: readonly string[]): string[] {
  const rooms = files.map((file) => {
    // Where packages are linked to, they lie elsewhere.
    const [, inPackages] = file.split('node_modules/');
    if (inPackages !== undefined) return /^(@[^/]*\/)?[^/]*/.exec(inPackages)?.[0] ?? '';
    const [first, second = '', third = ''] = file.split('/');
    return third === '' ? 'dist' : `${first}/${second}`;
  });
  return [...new Set(rooms)].sort();
}

test('--help loads the command line alone: no command, no recipe, no zod, no addon', async () => {
  const files = await loadedBy('--help');
  expect(files).toContain('dist/cli/main.js');
  expect(roomsOf(files)).toEqual(['commander', 'dist', 'dist/cli', 'ts-pattern']);
  expect(
    files.filter((file) =>
      /^dist\/cli\/(bench|cache|demo|doctor|lora|model|probe|recipe|report|sample|train)/.test(file),
    ),
  ).toEqual([]);
});

test('recipe check loads what recipes are made of: not the other commands, not what computes, not the addon', async () => {
  const files = await loadedBy('recipe', 'check', 'configs/examples/multi-teacher.json');
  expect(files).toContain('dist/recipe/load.js');
  for (const room of ['dist/native', 'dist/train', 'dist/cache', 'dist/machine', '@huggingface/hub']) {
    expect(roomsOf(files), room).not.toContain(room);
  }
  expect(files.filter((file) => file.startsWith('dist/cli/recipe'))).toEqual(['dist/cli/recipe.js']);
});
