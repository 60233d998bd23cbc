import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { viewSafetensors } from '../../test/support/safetensors.ts';
import { writeTinyModel } from '../../test/support/tiny-model.ts';
import { makeTinyProject } from '../../test/support/tiny-project.ts';
import { convertModel } from '../model/convert.ts';
import { loadEngine } from '../native/index.ts';
import { buildCache } from './build-cache.ts';
import { exportCache } from './export.ts';
import { importCache } from './import.ts';
import { planCache } from './plan-cache.ts';
import { verifyCache } from './verify.ts';

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

it('a VAE that a recipe names makes latents for all teachers alike, and is what they are computed again with', async () => {
  const engine = await loadEngine();
  using project = await makeTinyProject(engine);
  const at = (name: string): string => join(project.folder, name);
  await writeTinyModel(engine, at('other'), 7);
  const own = await planCache(await project.recipe());
  const others = await planCache(await project.recipe(`student.model=${at('other')}`));
  for (const path of ['other', 'other/vae']) {
    const named = await planCache(await project.recipe(`student.vae=${at(path)}`));
    expect(named.latents, path).toEqual(others.latents);
    expect(named.text, path).toEqual(own.text);
  }
  expect(own.latents.vae).not.toEqual(others.latents.vae);

  // A file with a VAE alone does not say what its latents are scaled by: the student's family does.
  await convertModel(at('other/vae'), at('vae.safetensors'), { layout: 'file' });
  const file = `student.vae=${at('vae.safetensors')}`;
  const { latents } = await planCache(await project.recipe(file));
  expect(latents.vae).toMatchObject({ scalingFactor: 0.18215, channels: 4, downscale: 8 });
  expect(Object.keys(latents.vae.weights)).toEqual(['vae.safetensors']);
  await buildCache(await project.recipe(file, `cache.dir=${at('a')}`), { engine });
  await buildCache(await project.recipe(`student.model=${at('other')}`, `cache.dir=${at('b')}`), {
    engine,
    only: 'latents',
  });
  const made = (cache: string): Buffer | undefined =>
    viewSafetensors(readFileSync(join(at(cache), 'latents', 'shard-00000.safetensors'))).get('latents')?.bytes;
  expect(made('a')?.equals(made('b') ?? Buffer.alloc(0))).toBe(true);

  const images = { folder: at('pictures') };
  const recompute = { entries: 2, models: [at('base'), at('vae.safetensors')] };
  for (const backend of ['native', 'wasm'] as const) {
    const { report } = await verifyCache(at('a'), { backend, images, recompute });
    expect(report.verdict, backend).toBe('ok');
    const computed = report.recomputation?.components.map(({ component, compared }) => [component, compared]);
    expect(computed, backend).toEqual([
      ['latents', 2],
      ['text', 2],
    ]);
  }
  const foreign = { entries: 2, models: [at('base'), at('base/vae')] };
  await expect(verifyCache(at('a'), { images, recompute: foreign })).rejects.toThrow('was made with vae');

  // A teacher's own VAE counts for nothing, unless what it makes means something else.
  cpSync(at('other/vae'), at('first/vae'), { recursive: true });
  await expect(planCache(await project.recipe())).rejects.toMatchObject({ code: 'ERR_TEACHER_VAE' });
  expect((await planCache(await project.recipe(file))).latents).toEqual(latents);
  const config = at('first/vae/config.json');
  writeFileSync(config, readFileSync(config, 'utf8').replace('0.18215', '0.13025'));
  await expect(planCache(await project.recipe(file))).rejects.toMatchObject({ code: 'ERR_TEACHER_VAE' });
  const strange = project.recipe(`student.vae=${at('first')}`);
  await expect(planCache(await strange)).rejects.toMatchObject({
    code: 'ERR_STUDENT_VAE',
    remedy: expect.stringContaining('scaling factor 0.18215, this one'),
  });
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
  // The file of a UNet alone has neither.
  await convertModel(at('first'), at('first.safetensors'), { layout: 'file' });
  const alone = `teachers=[{"id":"alone","model":${JSON.stringify(at('first.safetensors'))}}]`;
  expect((await planCache(await project.recipe(alone))).teachers).toHaveLength(1);

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
