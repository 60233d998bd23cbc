import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { potstill } from '../../test/support/command-line.ts';
import { writeTinyImages } from '../../test/support/tiny-data.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { resolveValue, trainQuietly } from '../../test/support/training.ts';
import { loadEngine, readPicture } from '../native/index.ts';
import { stepName } from './checkpoints.ts';

const folder = mkdtempSync(join(tmpdir(), 'potstill-named-vae-'));
const at = (...names: string[]): string => join(folder, ...names);

beforeAll(async () => {
  const engine = await loadEngine();
  await writeTinyModel(engine, at('student'), 1);
  await writeTinyModel(engine, at('other'), 7);
  await writeTinyImages(engine, at('images'), 4);
});

afterAll(() => rmSync(folder, { recursive: true }));

it('the pictures of a run are made with the VAE that its recipe names', async () => {
  const settings = { sampler: 'ddim', steps: 2, guidance: 3 };
  const { student } = await trainQuietly(
    resolveValue(at('recipe.json'), {
      version: 1,
      name: 'run',
      output: 'run',
      student: { model: 'student', vae: 'other/vae', train: { lora: { rank: 2 } } },
      data: [{ images: 'images' }],
      cache: { dir: 'cache', draws: 2 },
      method: { id: 'denoise' },
      training: { steps: 2, batch: 2, optimizer: { lr: 1e-2 }, save: { dtype: 'f32' } },
      sampling: { ...settings, every: 100, prompts: ['a red picture'], seeds: [1] },
    }),
  );
  const read = async (file: string): Promise<Float32Array> => (await readPicture(await loadEngine(), file)).toArray();
  const during = await read(at('run', 'samples', stepName(2), 'prompt-00-seed-1.png'));
  const given = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const apart = async (to: string, ...words: readonly string[]): Promise<number> => {
    const picture = ['--prompt', 'a red picture', '--seed', '1', ...given, '--out', at(to)];
    const result = await potstill('sample', '--model', at('student'), '--lora', student, ...picture, ...words);
    expect(result.code, result.err).toBe(0);
    const drawn = await read(at(to, '00-a-red-picture-1.png'));
    return drawn.reduce((most, value, i) => Math.max(most, Math.abs(value - (during[i] ?? 0))), 0);
  };
  /** One of the 256 levels of a picture in [−1, 1]. */
  const level = 2 / 255;
  expect(await apart('with', '--vae', at('other'))).toBeLessThan(1.01 * level);
  expect(await apart('without')).toBeGreaterThan(1.01 * level);
}, 120_000);
