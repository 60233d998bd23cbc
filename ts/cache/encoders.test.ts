import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { makeTinyProject } from '../../test/support/tiny-project.ts';
import { convertModel } from '../model/convert.ts';
import { loadEngine } from '../native/index.ts';
import { buildCache } from './build-cache.ts';
import { exportCache } from './export.ts';
import { importCache } from './import.ts';
import { planCache } from './plan-cache.ts';

it('encoders that a recipe names make text and latents, for all teachers alike', async () => {
  const engine = await loadEngine();
  using project = await makeTinyProject(engine);
  const at = (name: string): string => join(project.folder, name);
  await writeTinyModel(engine, at('other'), 7);
  await writeTinyModel(engine, at('whole'), 8);
  const whole = `teachers=[{"id":"whole","model":${JSON.stringify(at('whole'))}}]`;
  const encoders = `student.encoders=${at('other')}`;

  // A teacher with text encoders of its own, which nobody has said not to use.
  await expect(planCache(await project.recipe(whole))).rejects.toMatchObject({ code: 'ERR_NOT_BUILT' });
  const shared = await planCache(await project.recipe(whole, encoders));
  const own = await planCache(await project.recipe());
  const others = await planCache(await project.recipe(`student.model=${at('other')}`));
  expect(shared.text).toEqual(others.text);
  expect(shared.latents).toEqual(others.latents);
  expect(shared.text.encoders).not.toEqual(own.text.encoders);
  expect(shared.latents.vae).not.toEqual(own.latents.vae);

  // What is built is what was planned.
  for (const only of ['latents', 'text']) {
    await buildCache(await project.recipe(encoders, `cache.dir=${at('a')}`), { engine, only });
    await buildCache(await project.recipe(`student.model=${at('other')}`, `cache.dir=${at('b')}`), { engine, only });
    const shard = (cache: string): Buffer => readFileSync(join(at(cache), only, 'shard-00000.safetensors'));
    expect(shard('a').equals(shard('b'))).toBe(true);
  }
});

it('an import makes latents and text by the encoders that the recipe names, as a build does', async () => {
  const engine = await loadEngine();
  using project = await makeTinyProject(engine);
  const at = (name: string): string => join(project.folder, name);
  await writeTinyModel(engine, at('other'), 7);
  const recipeOf = (dir: string, ...set: readonly string[]): ReturnType<typeof project.recipe> =>
    project.recipe('method={"id":"multi-teacher"}', 'cache.draws=1', `cache.dir=${at(dir)}`, ...set);
  await buildCache(await recipeOf('source'), { engine });
  await exportCache(at('source'), at('files'), { images: at('pictures') });
  const encoders = `student.encoders=${at('other')}`;
  await buildCache(await recipeOf('built', encoders), { engine });
  await importCache(at('files'), await recipeOf('imported', encoders, 'cache.noise=stored'), { engine });
  for (const only of ['latents', 'text']) {
    const shard = (cache: string): Buffer => readFileSync(join(at(cache), only, 'shard-00000.safetensors'));
    expect(shard('imported').equals(shard('built')), only).toBe(true);
    expect(shard('imported').equals(shard('source')), only).toBe(false);
  }
});

it('beside a single file, VAEs and text encoders of folders are compared by what they are like', async () => {
  const engine = await loadEngine();
  using project = await makeTinyProject(engine);
  const at = (name: string): string => join(project.folder, name);
  await writeTinyModel(engine, at('whole'), 8);
  await convertModel(at('base'), at('base.safetensors'), { layout: 'file', allow: ['tokenizer'] });
  const recipe = await project.recipe(
    `student.model=${at('base.safetensors')}`,
    `teachers=[{"id":"whole","model":${JSON.stringify(at('whole'))}}]`,
    'data[0].size=[64,64]',
  );
  const { teachers } = await planCache(recipe);
  expect(teachers.map(({ plan }) => plan.id)).toEqual(['whole']);

  const edit = (file: string, from: string, to: string): string => {
    const before = readFileSync(at(file), 'utf8');
    expect(before).toContain(from);
    writeFileSync(at(file), before.replace(from, to));
    return before;
  };
  const vae = edit('whole/vae/config.json', '"scaling_factor": 0.18215', '"scaling_factor": 0.13025');
  await expect(planCache(recipe)).rejects.toMatchObject({ code: 'ERR_TEACHER_VAE' });
  writeFileSync(at('whole/vae/config.json'), vae);
  edit('whole/text_encoder/config.json', '"hidden_size": 32', '"hidden_size": 64');
  await expect(planCache(recipe)).rejects.toMatchObject({
    code: 'ERR_NOT_BUILT',
    remedy: expect.stringContaining('student.encoders'),
  });
});
