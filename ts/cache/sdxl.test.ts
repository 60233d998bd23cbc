import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { halves, viewSafetensors } from '../../test/support/safetensors.ts';
import { makeTinyProject } from '../../test/support/tiny-project.ts';
import { writeTinySdxl } from '../../test/support/tiny-sdxl.ts';
import { loadEngine, scope } from '../native/index.ts';
import { ensureCache } from './ensure-cache.ts';
import { exportCache } from './export.ts';
import { verifyCache } from './verify.ts';

it("SDXL's cache holds pooled text, and its sizes are those of the views", async () => {
  const engine = await loadEngine();
  using project = await makeTinyProject(engine);
  const model = join(project.folder, 'sdxl');
  await writeTinySdxl(engine, model, 1);
  const recipe = await project.recipe(
    `student.model=${model}`,
    `teachers=[{"id":"same","model":${JSON.stringify(model)}}]`,
    // Few: a random teacher's predictions are not plausible, which is said of eight or more.
    'cache.draws=1',
    'data[0].size=[64,128]',
  );
  const cache = await ensureCache(recipe, engine);
  expect(cache.plans.text.shape).toEqual({ tokens: 77, width: 64, pooled: 32 });
  const sizes = [128, 64, 0, 0, 128, 64];
  expect(cache.plans.teachers[0]?.plan.timeIds).toEqual(cache.samples.map(() => sizes));
  await scope(async () => {
    const { text, teachers, latents } = cache.batch([{ sample: 3, draw: 0, unconditional: false }], ['cond', 'uncond']);
    expect(latents.shape).toEqual([1, 4, 16, 8]);
    expect(teachers[0]?.cond?.shape).toEqual([1, 4, 16, 8]);
    expect([...((await text.timeIds?.toArray()) ?? [])]).toEqual(sizes);
    const shard = readFileSync(join(project.folder, 'cache/text/shard-00000.safetensors'));
    const pooled = viewSafetensors(shard).get('pooled');
    const { caption } = cache.samples[3] ?? { caption: -1 };
    const stored = pooled === undefined ? [] : halves(pooled).slice(32 * caption, 32 * (caption + 1));
    expect([...((await text.textEmbeds?.toArray()) ?? [])]).toEqual(stored);
    expect(new Set(stored).size).toBeGreaterThan(16);
  });
  const [native, wasm] = [
    await verifyCache(recipe.cache.dir),
    await verifyCache(recipe.cache.dir, { backend: 'wasm' }),
  ];
  expect([native.report.verdict, wasm.json]).toEqual(['ok', native.json]);

  // Readers of the files layout give the width first: no prediction belongs to that.
  const exported = await exportCache(recipe.cache.dir, join(project.folder, 'files'));
  expect(exported).toMatchObject({ files: 6, otherTimeIds: 6, otherPredictions: [] });
});
