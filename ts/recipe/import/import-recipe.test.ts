import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { potstill } from '../../../test/support/command-line.ts';
import { loadRecipe } from '../index.ts';
import { importRecipe } from './import-recipe.ts';

/** As the project's own documentation prints it: comments, and a list that ends in an ellipsis. */
const BUILDER = `{
  "device": "cuda",
  "teacher": {
    "checkpoint_path": ".output/my_teacher",  // Diffusers checkpoint path
    "teacher_id": "teacher_v1",               // Unique identifier
    "use_bf16": true
  },
  "data": {
    "image_dir": "./data/images",
    "size": 1024,
    "bucket": { "enabled": true, "resolutions": [[1024, 1024], [896, 1152], ...] },
    "latent_cache": { "enabled": true, "cache_dir": "./cache/latents" }
  },
  "cache": {
    "output_dir": "./cache/teacher_predictions",
    "version": "1",
    "dtype": "fp16",
    "base_seed": 42,
    "min_timestep": 0,
    "max_timestep": 1000,
    "skip_existing": true
  },
  "model": { "text_encoder_id": "stabilityai/stable-diffusion-xl-base-1.0" }
}`;

const TRAINING = `{
  "device": "cuda",
  "run": { "name": "distill_student_v1", "output_root": ".output/distill" },
  "student": {
    "checkpoint_path": "stabilityai/stable-diffusion-xl-base-1.0",
    "text_encoder_id": "stabilityai/stable-diffusion-xl-base-1.0",
    "use_bf16": true,
    "use_gradient_checkpointing": true,
    "use_ema": true,
    "ema_decay": 0.9999
  },
  "teachers": [
    {"teacher_id": "teacher_v1", "cache_dir": "./cache/teacher_predictions", "weight": 0.333},
    {"teacher_id": "teacher_chaos", "cache_dir": "./cache/teacher_predictions", "weight": 0.667}
  ],
  "training": { "batch_size": 4, "num_steps": 10000, "lr": 5e-6, "loss_type": "mse" }
}`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'potstill-import-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string): string => join(folder, name);

function config(name: string, text: string): string {
  writeFileSync(at(name), text);
  return at(name);
}

const chaos = (): string =>
  config('chaos.json', BUILDER.replace('my_teacher', 'chaos').replace('"teacher_v1"', '"teacher_chaos"'));

describe('importRecipe', () => {
  it('makes a recipe of all configs, which loads', async () => {
    const files = [config('distill.json', TRAINING), config('v1.json', BUILDER), chaos()];
    const { recipe, notes } = await importRecipe(files, { base: folder, out: at('recipe.json') });
    expect(recipe).toEqual({
      $schema: 'node_modules/potstill/schema/recipe.schema.json',
      version: 1,
      name: 'distill_student_v1',
      seed: 42,
      output: '.output/distill/distill_student_v1',
      student: { model: 'stabilityai/stable-diffusion-xl-base-1.0', train: 'unet' },
      teachers: [
        { id: 'teacher_v1', model: '.output/my_teacher', weight: 0.333 },
        { id: 'teacher_chaos', model: '.output/chaos', weight: 0.667 },
      ],
      data: [{ images: 'data/images', size: [1024, 1024] }],
      cache: {
        dir: 'cache/teacher_predictions-shards',
        draws: 1,
        noise: 'torch',
        timesteps: [0, 1000],
        dtype: 'f16',
      },
      method: { id: 'multi-teacher' },
      training: {
        steps: 10000,
        batch: 4,
        optimizer: { id: 'adamw', lr: 5e-6 },
        recompute: true,
        ema: { decay: 0.9999 },
      },
    });
    const said = notes.map(({ code, what }) => `${code}: ${what}`).join('\n');
    expect(said).toContain('buckets: pictures were sorted into 1024x1024, 896x1152 (width x height)');
    expect(said).toContain('buckets: ends in "..."');
    expect(said).toContain(
      'text and latents came from stabilityai/stable-diffusion-xl-base-1.0 (model.text_encoder_id)',
    );
    expect(said).toContain('[W, H, 0, 0, W, H]');
    expect(said).not.toContain('fill-in');
    writeFileSync(at('recipe.json'), JSON.stringify(recipe));
    const loaded = await loadRecipe(at('recipe.json'));
    expect(loaded.recipe.teachers[0]?.model).toBe(at('.output/my_teacher'));
  });

  it.each([
    [{ id: 'base', text_encoder_id: 'other' }, 'base (model.id)'],
    [{ text_encoder_id: 'other' }, 'other (model.text_encoder_id)'],
    [{ id: null }, '.output/my_teacher (teacher.checkpoint_path)'],
    [undefined, '.output/my_teacher (teacher.checkpoint_path)'],
  ])('finds where the text came from, in the order of the builder: %o', async (model, source) => {
    const text = BUILDER.replace(
      /,\s*"model": \{[^}]*\}/,
      model === undefined ? '' : `, "model": ${JSON.stringify(model)}`,
    );
    const { notes } = await importRecipe([config('source.json', text)]);
    expect(notes.find(({ code }) => code === 'text-source')?.what).toContain(`came from ${source}`);
  });

  it("keeps encoders that are not the student's own", async () => {
    const text = BUILDER.replace(/"model": \{[^}]*\}/, '"model": { "id": "shared/encoders" }');
    const { recipe, notes } = await importRecipe([config('distill.json', TRAINING), config('shared.json', text)]);
    expect(recipe).toMatchObject({
      student: { model: 'stabilityai/stable-diffusion-xl-base-1.0', encoders: 'shared/encoders' },
    });
    const note = notes.find(({ code }) => code === 'text-source');
    expect(note).toMatchObject({
      path: 'student.encoders',
      what: 'text and latents came from shared/encoders (model.id)',
    });
  });

  it('marks what a training alone does not say', async () => {
    const { recipe, notes } = await importRecipe([config('distill.json', TRAINING)]);
    expect(recipe).toMatchObject({
      teachers: [{ model: 'FILL-IN/model-of-teacher_v1' }, { model: 'FILL-IN/model-of-teacher_chaos' }],
      data: [{ images: 'FILL-IN/images' }],
    });
    expect(notes.filter(({ code }) => code === 'fill-in').map(({ path }) => path)).toEqual([
      'teachers[0].model',
      'teachers[1].model',
      'data[0].images',
    ]);
  });

  it('makes a recipe of one cache alone', async () => {
    const { recipe, notes } = await importRecipe([config('v1.json', BUILDER)]);
    expect(recipe).toMatchObject({
      student: { model: 'stabilityai/stable-diffusion-xl-base-1.0' },
      teachers: [{ id: 'teacher_v1', weight: 1 }],
      training: { steps: 10000 },
    });
    expect(notes.filter(({ code }) => code === 'fill-in').map(({ path }) => path)).toEqual(['training.steps']);
  });

  it('tells of every key and value that a recipe does not have', async () => {
    const text = TRAINING.replace('"loss_type": "mse"', '"loss_type": "huber", "warmup": 5').replace(
      '"weight": 0.667',
      '"weight": 0.667, "note": "x"',
    );
    const renamed = text.replaceAll('teacher_chaos', 'Chaos Mix');
    const { recipe, notes } = await importRecipe([config('odd.json', renamed)]);
    expect(recipe).toMatchObject({ teachers: [{}, { id: 'chaos-mix' }] });
    const paths = notes.map(({ code, path }) => `${code} ${path}`);
    expect(paths).toEqual(
      expect.arrayContaining([
        'value-changed training.loss',
        'value-changed teachers[1].id',
        'not-imported training.warmup',
        'not-imported teachers[1].note',
        'not-imported student.use_bf16',
        'not-imported device',
      ]),
    );
  });

  it('tells of what a builder has and a recipe has not', async () => {
    const { notes } = await importRecipe([config('v1.json', BUILDER), chaos()]);
    const unused = notes.filter(({ code }) => code === 'not-imported').map(({ path, what }) => `${path}: ${what}`);
    expect(unused).toEqual([
      expect.stringMatching(/^cache\.version: "1": /),
      expect.stringMatching(/^cache\.skip_existing: true: /),
      expect.stringMatching(/^data\.latent_cache: .*"\.\/cache\/latents"/),
      expect.stringMatching(/^teacher\.use_bf16: true: /),
      expect.stringMatching(/^device: "cuda": /),
    ]);
  });

  it('takes teachers with folders and dtypes of their own, and one folder in two spellings', async () => {
    const own = BUILDER.replace('my_teacher', 'chaos')
      .replace('"teacher_v1"', '"teacher_chaos"')
      .replace('"./data/images"', '"data/images/"')
      .replace('"./cache/teacher_predictions"', '"./cache/chaos"')
      .replace('"fp16"', '"fp32"');
    const files = [config('v1.json', BUILDER), config('own.json', own)];
    const { recipe, notes } = await importRecipe(files, { base: folder, out: at('recipe.json') });
    expect(recipe).toMatchObject({
      data: [{ images: 'data/images' }],
      cache: { dir: 'cache/teacher_predictions-shards', dtype: 'f32' },
    });
    const said = notes.map(({ path, what }) => `${path} ${what}`).join('\n');
    expect(said).toContain('the files in ./cache/teacher_predictions stay');
    expect(said).toContain('the files in ./cache/chaos stay');
    expect(said).toContain('cache.dtype is f32 for all teachers: the configs say fp16, fp32');
  });

  it('refuses one teacher_id for two checkpoints, and takes one config twice', async () => {
    const forgotten = config('forgotten.json', BUILDER.replace('my_teacher', 'chaos'));
    await expect(importRecipe([config('v1.json', BUILDER), forgotten])).rejects.toMatchObject({
      code: 'ERR_IMPORT_CONFLICT',
      what: 'teacher.teacher_id "teacher_v1" is of two checkpoints: .output/my_teacher and .output/chaos',
      where: `${at('v1.json')}, ${forgotten}`,
      remedy: expect.stringContaining('teacher_id of its own'),
    });
    const again = config('again.json', BUILDER.replace('".output/my_teacher"', '"./.output/my_teacher"'));
    const { recipe } = await importRecipe([config('v1.json', BUILDER), again]);
    expect(recipe).toMatchObject({ name: 'teacher_v1', teachers: [{ id: 'teacher_v1' }] });
  });

  it.each([
    ['teachers with other seeds', BUILDER.replace('"base_seed": 42', '"base_seed": 7'), 'cache.base_seed is 7 and 42'],
    ['what is no such config', '{"version": 1}', 'is no config that can be imported'],
    ['a value of the wrong type', BUILDER.replace('"size": 1024', '"size": "big"'), 'data.size'],
    ['what is no JSON', '{', 'not JSON'],
  ])('refuses %s', async (_, text, what) => {
    await expect(importRecipe([config('bad.json', text), chaos()])).rejects.toMatchObject({
      what: expect.stringContaining(what),
      remedy: expect.stringMatching(/./),
      kind: 'input',
    });
  });
});

it('refuses a size that no model takes', async () => {
  const text = BUILDER.replace('"size": 1024', '"size": 1001');
  const what = expect.stringContaining('data.0.size');
  await expect(importRecipe([config('bad.json', text)])).rejects.toMatchObject({ what, kind: 'input' });
});

describe('potstill recipe import', () => {
  it('writes a recipe whose comments say what to look at', async () => {
    const files = [config('distill.json', TRAINING), config('v1.json', BUILDER), chaos()];
    const { code, out } = await potstill('recipe', 'import', ...files, '--base', folder, '--out', at('made.json'));
    expect(code).toBe(0);
    expect(out).toContain('buckets: ');
    expect(readFileSync(at('made.json'), 'utf8')).toMatch(/^\/\/ Imported from .*\n\/\/ text-source: /);
    expect((await potstill('recipe', 'check', at('made.json'))).code).toBe(0);
    const printed = await potstill('recipe', 'import', files[0] ?? '', '--json');
    expect(JSON.parse(printed.out)).toMatchObject({ ok: true, recipe: { version: 1 } });
  });

  it.each([
    ['nowhere.json', 'cannot be read'],
    ['.', 'is a folder'],
  ])('exits with 2 for %s', async (name, what) => {
    const { code, err } = await potstill('recipe', 'import', at(name));
    expect(code).toBe(2);
    expect(err).toContain(what);
  });

  it('exits with 2 when the recipe cannot be written there', async () => {
    mkdirSync(at('taken'), { recursive: true });
    const { code, err } = await potstill('recipe', 'import', config('v1.json', BUILDER), '--out', at('taken'));
    expect(code).toBe(2);
    expect(err).toContain('is a folder');
  });
});
