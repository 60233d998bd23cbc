import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { UNETS } from '../bench/architectures.ts';
import { LORA_RANK } from '../bench/unet.ts';
import { Lora, loadEngine, Unet } from '../native/index.ts';
import { loadRecipe } from '../recipe/index.ts';
import { RUNTIME, unetNeeds } from './estimate.ts';
import { estimateMemory, type MemoryEstimate } from './index.ts';

/** What was measured of whole processes. */
const RESULTS = join(import.meta.dirname, '../../bench/results');

let project: TinyProject;
beforeAll(async () => {
  project = await makeTinyProject(await loadEngine({ threads: 2 }));
});
afterAll(() => project[Symbol.dispose]());

async function estimate(...set: readonly string[]): Promise<MemoryEstimate> {
  const { recipe } = await loadRecipe(project.recipeFile, { set });
  return estimateMemory(recipe, { device: 'cpu' });
}

function needOf({ phases }: MemoryEstimate, phase: string, what: string): number {
  const found = phases.find((those) => those.phase === phase)?.needs.find((need) => need.what === what);
  return found?.bytes ?? Number.NaN;
}

test('every phase of a recipe has its parts', async () => {
  const { phases, fits, device, available } = await estimate();
  expect(fits).toBe(true);
  expect(device).toBe('cpu');
  expect(available).toBeGreaterThan(0);
  expect(phases.map(({ phase }) => phase)).toEqual(
    expect.arrayContaining(['latents', 'text', 'teacher first', 'training']),
  );
  for (const { needs, bytes } of phases) expect(needs.reduce((sum, need) => sum + need.bytes, 0)).toBe(bytes);
});

test('all weights are trained with as much again for gradients, and twice for AdamW', async () => {
  const found = await estimate('training.ema.decay=0.99');
  const weights = needOf(found, 'training', 'weights');
  expect(weights).toBeGreaterThan(1e5);
  expect(needOf(found, 'training', 'gradients')).toBe(weights);
  expect(needOf(found, 'training', 'optimizer')).toBe(2 * weights);
  expect(needOf(found, 'training', 'moving average')).toBe(weights);
});

test("a LoRA's own state is counted, and grows with its rank", async () => {
  const lora = (rank: number): Promise<MemoryEstimate> => estimate(`student.train={"lora":{"rank":${rank}}}`);
  const [small, large] = [await lora(2), await lora(4)];
  const parameters = needOf(small, 'training', 'LoRA');
  expect(parameters).toBeGreaterThan(0);
  expect(needOf(large, 'training', 'LoRA')).toBe(2 * parameters);
  expect(needOf(small, 'training', 'optimizer')).toBe(2 * parameters);
});

test("a LoRA's blocks and files have the parameters that are trained", async () => {
  const blocks = [{ layers: 'down_blocks.*', rank: 8 }, { layers: '*.attn2.*', rank: 3 }, { layers: '*.to_out.0' }];
  const shape = { rank: 2, targets: 'attention', blocks };
  const found = await estimate(`student.train=${JSON.stringify({ lora: shape })}`);
  const unet = await Unet.open(await loadEngine(), join(project.folder, 'base', 'unet'));
  const lora = await Lora.create(unet, {
    ...{ rank: 2, alpha: 2, targets: ['attention'], seed: 1n },
    blocks: blocks.map(({ layers, rank = 2 }) => ({ layers, rank, alpha: rank })),
  });
  const file = join(project.folder, 'blocks.safetensors');
  await lora.save(file, {
    target: { dialect: 'diffusers', dtype: 'f32', title: 'blocks' },
    metadata: {},
    details: '{}',
  });
  const bytes = 4 * lora.parameterCount;
  lora.dispose();
  unet.dispose();
  for (const what of ['LoRA', 'gradients']) expect(needOf(found, 'training', what)).toBe(bytes);
  const ofFile = await estimate(`student.train=${JSON.stringify({ lora: file })}`);
  // Beside the parameters, a file has an alpha for each layer.
  expect(needOf(ofFile, 'training', 'LoRA')).toBeLessThan(1.02 * bytes);
  expect(needOf(ofFile, 'training', 'LoRA')).toBeGreaterThanOrEqual(bytes);
  expect(needOf(ofFile, 'training', 'gradients')).toBe(needOf(ofFile, 'training', 'LoRA'));
});

test.each([
  ['sd15', 'forward'],
  ['sd15', 'full'],
  ['sd15', 'lora'],
  ['sdxl', 'forward'],
  ['sdxl', 'lora'],
] as const)('the prediction for %s, %s, is near the peak that was measured', async (arch, mode) => {
  const recorded = JSON.parse(readFileSync(join(RESULTS, `unet-${arch}-${mode}.json`), 'utf8'));
  const { size, batch, recompute, dtype } = recorded.workload;
  expect([recorded.workload.arch, recorded.workload.mode, dtype]).toEqual([arch, mode, 'f32']);
  const model = join(project.folder, `${arch}-shape`);
  mkdirSync(join(model, 'unet'), { recursive: true });
  writeFileSync(join(model, 'unet', 'config.json'), JSON.stringify(UNETS[arch]));
  const trained = ({ forward: 'nothing', full: 'unet', lora: 'lora' } as const)[mode];
  const needs = await unetNeeds(model, {
    ...{ batch, width: size, height: size, trained, recompute },
    ...(mode === 'lora' ? { rank: LORA_RANK, targets: ['attention'] } : {}),
  });
  const predicted = RUNTIME.cpu + needs.reduce((sum, { bytes }) => sum + bytes, 0);
  expect(Math.abs(predicted / recorded.ours.peakBytes - 1), `${predicted}`).toBeLessThan(0.04);
});

test('activations grow with the batch, and recomputation takes less', async () => {
  const of = async (...set: readonly string[]): Promise<number> =>
    needOf(await estimate(...set), 'training', 'activations');
  const [one, eight] = [await of('training.batch=8'), await of('training.batch=64')];
  expect(eight / one).toBeGreaterThan(7);
  expect(await of('training.batch=64', 'training.recompute=true')).toBeLessThan(eight / 2);
});

test('doctor prints the table, and exits with 1 when it does not fit', async () => {
  const fits = await potstill('doctor', '--estimate', project.recipeFile);
  expect(fits.code, fits.err).toBe(0);
  expect(fits.out).toMatch(/^latents +\d.*\(VAE .*activations .*program .*\)$/m);
  expect(fits.out).toMatch(/^fits: at most .* free on cpu$/m);
  const words = ['doctor', '--estimate', project.recipeFile, '--set', 'training.batch=65536'];
  const large = await potstill(...words);
  expect(large.code).toBe(1);
  expect(large.out).toMatch(/^training .*does not fit/m);
  expect(large.out).toContain('does not fit: ');
  const json = JSON.parse((await potstill(...words, '--json')).out);
  expect(json).toMatchObject({ device: 'cpu', fits: false });
});

test('--set without a recipe to estimate is a mistake', async () => {
  const { code, err } = await potstill('doctor', '--set', 'training.batch=2');
  expect(code).toBe(2);
  expect(err).toContain('--estimate');
});
