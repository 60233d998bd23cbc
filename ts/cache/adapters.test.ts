import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeTinyLora } from '../../test/support/tiny-lora.ts';
import { makeTinyProject } from '../../test/support/tiny-project.ts';
import { loadEngine } from '../native/index.ts';
import { silentProgress } from '../progress.ts';
import { buildCache } from './build-cache.ts';
import { planCache } from './plan-cache.ts';

it("an adapter's file may be gone once everything is predicted with it, and not before", async () => {
  const engine = await loadEngine();
  using project = await makeTinyProject(engine);
  const at = (name: string): string => join(project.folder, name);
  await writeTinyLora(engine, at('first'), at('style.safetensors'));
  const teachers = [{ id: 'first', model: at('first'), lora: [{ file: at('style.safetensors') }] }];
  const recipe = await project.recipe(`teachers=${JSON.stringify(teachers)}`, 'cache.draws=1');
  const { plans } = await buildCache(recipe, { engine });
  const digest = plans.teachers[0]?.plan.adapters[0]?.file ?? 'none';
  renameSync(at('style.safetensors'), at('moved.safetensors'));

  const lines: string[] = [];
  const progress = { ...silentProgress, log: (line: string) => lines.push(line) };
  expect((await planCache(recipe, { progress })).teachers[0]?.plan).toEqual(plans.teachers[0]?.plan);
  const [line, ...others] = lines;
  expect(line).toContain(at('style.safetensors'));
  expect(line).toContain(digest);
  expect(others).toEqual([]);

  rmSync(at('cache/teachers/first/seal.json'));
  await expect(planCache(recipe)).rejects.toMatchObject({
    code: 'ERR_ADAPTER_INPUT',
    where: at('style.safetensors'),
  });
});
