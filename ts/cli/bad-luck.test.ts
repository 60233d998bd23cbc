import { chmodSync, existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { encodePng, loadEngine, noise, Tensor, writeTensors } from '../native/index.ts';

/** What a newcomer mistypes or misplaces: every case is answered with the place, the reason and a remedy. */
const engine = await loadEngine({ threads: 2 });
let folder = '';
const at = (name: string): string => join(folder, name);
const gaussian = (shape: readonly number[]): Tensor =>
  noise(engine, { generator: 'philox', seeds: [3n], shape }).reshape(shape);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-bad-luck-'));
  await writeTinyModel(engine, at('model'), 1);
  await writeTinyModel(engine, at('teacher'), 1);
  await mkdir(at('aside/text'), { recursive: true });
  for (const part of ['vae', 'text_encoder']) await rename(at(`teacher/${part}`), at(`aside/${part}`));
  await writeFile(at('notes.txt'), 'not a model');
  await writeTensors(at('latents.safetensors'), { latents: gaussian([1, 4, 8, 8]) });
  await writeTensors(at('wide.safetensors'), { latents: gaussian([1, 5, 8, 8]) });
  await writeTensors(at('other.safetensors'), { noise: gaussian([1, 4, 8, 8]) });
  const inputs = { sample: gaussian([1, 4, 8, 8]), encoder_hidden_states: gaussian([1, 77, 32]) };
  const timestep = Tensor.fromArray(engine, [3], [1]);
  await writeTensors(at('unet.safetensors'), { ...inputs, timestep, target: gaussian([1, 4, 8, 4]) });
  await writeTensors(at('text.safetensors'), { ...inputs, timestep, encoder_hidden_states: gaussian([1, 77, 31]) });
  await writeFile(at('picture.png'), await encodePng(gaussian([1, 3, 16, 16])));
  await writeFile(at('prompts.json'), '["a"]');
});
afterAll(() => rm(folder, { recursive: true }));

/** Runs a command line in which `@name` stands for a path in the folder; nothing may have been left behind. */
async function fails(line: string, code = 2): Promise<string> {
  const before = await readdir(folder);
  const words = line.split(' ').map((word) => (word.startsWith('@') ? at(word.slice(1)) : word));
  const result = await potstill(...words);
  expect(result.code, result.err).toBe(code);
  expect(result.err).toContain('  do:    ');
  expect(result.err).not.toMatch(/os error|\.tmp|ERR_SYSTEM_E[NI]|is a bug/);
  expect(await readdir(folder)).toEqual(before);
  return result.err;
}

const PROBES = {
  noise: 'probe noise --seed 1 --shape 4',
  text: 'probe text --model @model --prompts @prompts.json',
  unet: 'probe unet --model @model --in @unet.safetensors',
  vae: 'probe vae --model @model --decode @latents.safetensors',
  sample: 'probe sample --model @model --prompt x --latents @latents.safetensors --steps 1',
} as const;

describe.each(Object.values(PROBES))('%s', (probe) => {
  test.each([
    ['@model', 'is a folder where a file is to be written'],
    ['@nowhere/x.safetensors', 'there is no folder'],
    ['@notes.txt/x.safetensors', 'is a file, not a folder'],
  ])('--out %s', async (out, what) => {
    const err = await fails(`${probe} --out ${out}`);
    expect(err).toContain(what);
    expect(err).toContain(`where: ${at(out.slice(1))}`);
  });
});

test.each([
  ['probe text --model @model --out @o --prompts @nowhere.json', '@nowhere.json', 'no such file'],
  ['probe text --model @model --out @o --prompts @aside', '@aside', 'is a folder'],
  ['probe unet --model @model --out @o --in @nowhere', '@nowhere', 'no such file'],
  ['probe unet --model @model --out @o --in @aside', '@aside', 'is a folder'],
  ['probe vae --model @model --out @o --encode @nowhere.png', '@nowhere.png', 'no such file'],
  ['probe vae --model @model --out @o --decode @aside', '@aside', 'is a folder'],
  ['probe sample --model @model --prompt x --out @o --latents @aside', '@aside', 'is a folder'],
])('an input that is not there: %s', async (line, where, what) => {
  const err = await fails(line);
  expect(err).toContain(what);
  expect(err).toContain(`where: ${at(where.slice(1))}\n`);
});

test.each([
  [
    'sample --prompt x --out @o --model @teacher',
    'the model has no text_encoder, no vae',
    'Copy or link text_encoder/, vae/',
  ],
  ['sample --prompt x --out @o --model @teacher --vae @model', 'the model has no text_encoder', 'text_encoder/'],
  ['sample --prompt x --out @o --model @model --vae @aside/text', 'neither a config.json nor a folder vae', 'VAE'],
  ['probe text --prompts @prompts.json --out @o --model @teacher', 'the model has no text_encoder', 'text_encoder/'],
  ['probe vae --encode @picture.png --out @o --model @teacher', 'the model has no vae', 'vae/'],
  ['sample --prompt x --out @o --model @notes.txt', 'the header claims', 'intact copy'],
  ['sample --prompt x --out @o --model @unet.safetensors', 'none of which belongs', 'Only models'],
  ['sample --prompt x --out @o --model @nowhere', 'no such file or folder', 'unet/'],
  ['sample --prompt x --out @o --model @aside', 'is not a diffusers model', 'unet/'],
])('a model that lacks something: %s', async (line, what, remedy) => {
  const err = await fails(line);
  expect(err).toContain(what);
  expect(err).toMatch(new RegExp(`do: .*${remedy}`));
});

test.each([
  ['probe vae --model @model --out @o --decode @other.safetensors', '@other.safetensors', 'no tensor "latents"'],
  ['probe vae --model @model --out @o --decode @wide.safetensors', '@wide.safetensors', '[1, 5, 8, 8]'],
  ['probe sample --model @model --prompt x --out @o --latents @wide.safetensors', '@wide.safetensors', '[1, 5, 8, 8]'],
  ['probe unet --model @model --out @o --in @text.safetensors', '@text.safetensors', '[1, 77, 31]'],
  ['probe unet --model @model --out @o --in @unet.safetensors --backward', '@unet.safetensors', '[1, 4, 8, 4]'],
])('tensors that do not fit: %s', async (line, where, what) => {
  const err = await fails(line);
  expect(err).toContain(what);
  expect(err).toContain(`where: ${at(where.slice(1))}\n`);
});

test('output folders that are files, and runs that are none', async () => {
  expect(await fails('sample --model @model --prompt x --out @notes.txt')).toContain('notes.txt is a file');
  expect(await fails('demo --out @notes.txt/demo')).toContain('notes.txt is a file');
  expect(await fails('report @notes.txt')).toContain('this is not a run');
  expect(await fails('report @nowhere')).toContain('this is not a run');
});

test.runIf(process.getuid?.() !== 0)('a place without permission is this machine', async () => {
  await mkdir(at('locked'));
  chmodSync(at('locked'), 0o500);
  expect(await fails(`${PROBES.noise} --out @locked/x`, 3)).toContain('permission denied');
  expect(existsSync(at('locked/x'))).toBe(false);
});

test.each([
  ['probe noise --seed 1', 'potstill probe noise --help'],
  ['sample --model @model --prompt x --clip-skip -1', 'from 0 to'],
  ['sample --model @model --prompt x --size 0x64', 'Neither side can be 0'],
  ['sample --prompt x', 'potstill sample --help'],
])('usage that points to the right help: %s', async (line, help) => {
  expect(await fails(line)).toContain(help);
});
