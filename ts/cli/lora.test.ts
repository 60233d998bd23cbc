import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { decodeSafetensors, encodeSafetensors } from '../../test/support/safetensors.ts';
import { writeTinySdxl } from '../../test/support/tiny-sdxl.ts';
import type { AdapterReport } from '../adapter/index.ts';
import { loadEngine } from '../native/index.ts';

let folder = '';
const at = (name: string): string => join(folder, name);

const QUERY = 'lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q';
const FIRST = 'lora_te1_text_model_encoder_layers_0_mlp_fc1';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'potstill-lora-'));
  await writeTinySdxl(await loadEngine({ threads: 2 }), at('model'), 1);
  const wave = (shape: number[], start: number) => ({
    shape,
    values: Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, (_, i) =>
      Math.sin(start + i),
    ),
  });
  const tensors = new Map([
    [`${QUERY}.lora_up.weight`, wave([64, 4], 1)],
    [`${QUERY}.lora_down.weight`, wave([4, 64], 2)],
    [`${QUERY}.alpha`, { shape: [], values: Float32Array.of(2) }],
    [`${FIRST}.lora_up.weight`, wave([128, 4], 3)],
    [`${FIRST}.lora_down.weight`, wave([4, 32], 4)],
  ]);
  await writeFile(at('a.safetensors'), encodeSafetensors(tensors));
  tensors.set('lora_unet_nowhere.lora_up.weight', wave([4, 4], 5));
  await writeFile(at('unmatched.safetensors'), encodeSafetensors(tensors));
});
afterAll(() => rm(folder, { recursive: true }));

async function lora(...words: string[]): Promise<string> {
  const { code, out, err } = await potstill('lora', ...words, '--model', at('model'));
  expect(code, err).toBe(0);
  return out;
}

async function inspect(name: string): Promise<AdapterReport> {
  return JSON.parse(await lora('inspect', at(name), '--json')) as AdapterReport;
}

const norms = ({ modules }: AdapterReport): number[] => modules.map(({ norm }) => norm);

/** Equal to within the rounding of factors to f32. */
function close(found: readonly number[], wanted: readonly number[]): void {
  expect(found.length).toBe(wanted.length);
  found.forEach((value, i) => {
    expect(value).toBeCloseTo(wanted[i] ?? Number.NaN, 4);
  });
}

test('inspect says what is in it', async () => {
  const report = await inspect('a.safetensors');
  expect(report).toMatchObject({ kind: 'sdxl', dialect: 'kohya', dtype: 'F32', kinds: { lora: 2 } });
  expect(report.modules.map(({ scale }) => scale)).toEqual([1, 0.5]);
  const text = await lora('inspect', at('a.safetensors'));
  expect(text).toContain('unet.mid_block');
  expect(text).toContain('Every key is accounted for.');
});

test('every dialect does the same', async () => {
  const wanted = norms(await inspect('a.safetensors'));
  for (const dialect of ['kohya', 'comfy', 'diffusers', 'peft']) {
    await lora('convert', at('a.safetensors'), '--out', at(dialect), '--dialect', dialect);
    const report = await inspect(dialect);
    expect(report.dialect).toBe(dialect);
    close(norms(report), wanted);
  }
  const names = [...decodeSafetensors(await readFile(at('kohya'))).keys()];
  expect(names).toContain('lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q.alpha');
  const again = await potstill('lora', 'convert', at('a.safetensors'), '--out', at('kohya'), '--model', at('model'));
  expect(again).toMatchObject({ code: 2, err: expect.stringContaining('exists already') as string });
});

test('scaling, merging and resizing', async () => {
  const [text = 0, unet = 0] = norms(await inspect('a.safetensors'));
  await lora('scale', at('a.safetensors'), '--unet', '0.5', '--out', at('half'));
  await lora('scale', at('half'), '--unet', '0.5', '--out', at('again'));
  close(norms(await inspect('again')), [text, unet / 2]);
  const block = ['--block', 'text_encoder=2'];
  await lora('merge', `${at('a.safetensors')}:0.5`, at('half'), ...block, '--out', at('sum'));
  const sum = await inspect('sum');
  close(norms(sum), [3 * text, unet]);
  expect(sum.modules.map(({ rank }) => rank)).toEqual([8, 8]);
  await lora('resize', at('sum'), '--rank', '4', '--out', at('small'));
  const small = await inspect('small');
  close(norms(small), [3 * text, unet]);
  expect(small.provenance.map(({ operation }) => operation)).toEqual(['merge', 'resize']);
});

test('inspect prints no control characters of a file', async () => {
  const tensors = decodeSafetensors(await readFile(at('a.safetensors')));
  const metadata = {
    'modelspec.title': '\u001b[2Jcleared\nnext',
    'potstill.provenance': '[{"tool":"\\u001b[H","operation":"x"}]',
  };
  await writeFile(at('hostile.safetensors'), encodeSafetensors(tensors, metadata));
  const text = await lora('inspect', at('hostile.safetensors'));
  expect(text).toContain('modelspec.title  \u{FFFD}[2Jcleared\u{FFFD}next');
  expect(text).toContain('made by  \u{FFFD}[H: x');
  expect(text).not.toContain('\u001b');
});

test('what is refused is named with its file', async () => {
  const tensors = decodeSafetensors(await readFile(at('a.safetensors')));
  tensors.set(`${QUERY}.dora_scale`, { shape: [64, 1], values: new Float32Array(64).fill(1) });
  await writeFile(at('dora.safetensors'), encodeSafetensors(tensors));
  const model = ['--model', at('model')];
  const layer = 'mid_block.attentions.0.transformer_blocks.0.attn1.to_q';
  for (const [words, message] of [
    [['merge', at('a.safetensors'), at('dora.safetensors')], `dora.safetensors, unet.${layer}`],
    [['scale', at('dora.safetensors'), '--unet', '0.5'], `dora.safetensors, ${layer}`],
    [['resize', at('dora.safetensors'), '--rank', '1'], `dora.safetensors, ${layer}`],
  ] as const) {
    const { code, err } = await potstill('lora', ...words, '--out', at('x'), ...model);
    expect(err).toContain(message);
    expect(code).toBe(2);
  }
  const { code, err } = await potstill('sample', ...model, '--lora', at('unmatched.safetensors'), '--prompt', 'x');
  expect(err).toContain('lora_unet_nowhere.lora_up.weight: names no layer');
  expect(err).not.toContain('--model');
  expect(code).toBe(2);
});

test('merging into a model, extracting from it and merging back', async () => {
  const [text = 0, unet = 0] = norms(await inspect('a.safetensors'));
  const allow = ['--allow', 'tokenizer*'];
  for (const out of ['merged', 'merged.safetensors']) {
    const words = ['--lora', `${at('a.safetensors')}:0.5`, '--out', at(out)];
    const { code, err } = await potstill('model', 'convert', at('model'), ...words, ...allow);
    expect(code, err).toBe(0);
    const extract = ['--base', at('model'), '--tuned', at(out), '--rank', '4', '--dtype', 'f32'];
    const found = await potstill('lora', 'extract', ...extract, '--out', at(`of-${out}`), '--json');
    expect(found.code, found.err).toBe(0);
    const { layers, leftOut } = JSON.parse(found.out) as {
      layers: { name: string; lost: number }[];
      leftOut: string[];
    };
    expect(leftOut).toEqual([]);
    expect(layers.map(({ name }) => name)).toEqual([
      'unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q',
      'text_encoder.text_model.encoder.layers.0.mlp.fc1',
    ]);
    expect(Math.max(...layers.map(({ lost }) => lost))).toBeLessThan(1e-4); // what f32 weights round
    close(norms(await inspect(`of-${out}`)), [text / 2, unet / 2]);
  }
  const both = [`${at('a.safetensors')}:0.5`, `${at('of-merged')}:-1`];
  await lora('back-merge', ...both, at('a.safetensors'), '--rank', '4', '--out', at('back'));
  const back = await inspect('back');
  close(norms(back), [text, unet]);
  expect(back.modules.map(({ rank }) => rank)).toEqual([4, 4]);
  const same = ['--base', at('model'), '--tuned', at('model'), '--rank', '1', '--out', at('nothing')];
  const { code, err } = await potstill('lora', 'extract', ...same);
  expect(code).toBe(2);
  expect(err).toContain('has the same linear layers and convolutions');
});

test('what does not fit is refused in words', async () => {
  const model = ['--model', at('model')];
  for (const [words, message] of [
    [['inspect', at('unmatched.safetensors'), ...model], 'lora_unet_nowhere.lora_up.weight: names no layer'],
    [['inspect', at('a.safetensors')], '--model'],
    [['inspect', at('nowhere')], 'does not exist'],
    [['resize', at('a.safetensors'), '--out', at('x')], 'neither --rank nor --energy'],
    [['scale', at('a.safetensors'), '--unet', '0', '--out', at('x'), ...model], 'no factor that can be taken back'],
    [['merge', at('a.safetensors'), '--block', 'unet.x=1', '--out', at('x'), ...model], 'no layer'],
  ] as const) {
    const { code, err } = await potstill('lora', ...words);
    expect(err).toContain(message);
    expect(code).toBe(2);
  }
  expect((await readdir(folder)).filter((name) => name === 'x' || name.startsWith('.'))).toEqual([]);
});
