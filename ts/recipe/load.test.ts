import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { methods } from '../methods/index.ts';
import { MAX_RECIPE_BYTES, parseDocument } from './document.ts';
import { RecipeError } from './error.ts';
import { loadRecipe, resolveRecipe } from './load.ts';

const RECIPE = `{
  // the smallest recipe that trains
  "version": 1,
  "name": "first try",
  "student": { "model": "base" },
  "teachers": [{ "id": "animals", "model": "teachers/animals", "weight": 0.5 }],
  "data": [{ "images": "pictures" }],
  "method": { "id": "cfg", "guidance": 5 },
  "training": { "steps": 250, "optimizer": { "lr": 1e-4 } },
}`;

const load = (text: string, set: readonly string[] = []) =>
  resolveRecipe(parseDocument('/recipes/recipe.json', text), { set });

/** The problems of a recipe, a line each. */
function problems(text: string, set: readonly string[] = []): string[] {
  try {
    load(text, set);
  } catch (error) {
    if (error instanceof RecipeError) {
      return error.toJSON().problems.map((problem) => {
        const { where, path, what, remedy } = problem as Record<string, string>;
        return `${where} ${path}: ${what}. ${remedy}`;
      });
    }
    throw error;
  }
  return [];
}

describe('a valid recipe', () => {
  test('gets every default and absolute paths from its own folder', () => {
    const { recipe } = load(RECIPE);
    expect(recipe.student).toEqual({ model: '/recipes/base', train: 'unet' });
    expect(recipe.teachers[0]?.model).toBe('/recipes/teachers/animals');
    expect(recipe.cache).toMatchObject({ dir: '/recipes/cache', draws: 4, noise: 'philox', timesteps: [0, 1000] });
    expect(recipe.training).toMatchObject({ batch: 1, clip: 1, optimizer: { id: 'adamw', betas: [0.9, 0.999] } });
    expect(recipe.output).toBe('/recipes/runs/first-try');
  });

  test('says where each value comes from', () => {
    const { origins } = load(RECIPE, ['training.batch=8', 'student.model=other']);
    expect(origins['name']).toBe('/recipes/recipe.json:4');
    expect(origins['training.batch']).toBe('--set training.batch=8');
    expect(origins['training.accumulation']).toBe('default');
    expect(origins['teachers[0].weight']).toBe('/recipes/recipe.json:6');
  });

  test('takes overrides by their schema; paths in them start at the working folder', () => {
    const { recipe } = load(RECIPE, ['name=42', 'training.optimizer.lr=1e-5', 'teachers[0].weight=2', 'output=out']);
    expect(recipe.name).toBe('42');
    expect(recipe.training.optimizer.lr).toBe(1e-5);
    expect(recipe.teachers[0]?.weight).toBe(2);
    expect(recipe.output).toBe(join(process.cwd(), 'out'));
  });

  test('keeps its paths inside the folder of the run, whatever its name', () => {
    expect(load(RECIPE, ['name=../../etc/passwd']).recipe.output).toBe('/recipes/runs/etc-passwd');
  });
});

describe('an unusable recipe', () => {
  test('methods that train in different phases share no run', () => {
    const mixed = 'data=[{"images":"a"},{"images":"b","method":{"id":"prior"}}]';
    expect(problems(RECIPE, [mixed])).toEqual([]);
    const { prior } = methods;
    const phased = vi.spyOn(methods, 'prior', 'get');
    phased.mockReturnValue({ ...prior, groups: { student: ['student'], critic: ['student'] } });
    expect(problems(RECIPE, [mixed])).toEqual([
      expect.stringMatching(/data\[1\]\.method: trains in other phases than method "cfg"/),
    ]);
    phased.mockRestore();
  });

  test('a key of another optimizer is not known to this one, whose keys are named', () => {
    const [problem, ...others] = problems(RECIPE, ['training.optimizer={"id":"lion","eps":1}']);
    expect(others).toEqual([]);
    expect(problem).toMatch(/unknown key "eps"\. Known here: id, lr, /);
    expect(problem).not.toMatch(/Did you mean|dynamic|growthRate|clipThreshold/);
    expect(problems(RECIPE, ['training.optimizer={"id":"lion","bets":[0.9,0.99]}'])).toEqual([
      expect.stringContaining('unknown key "bets". Did you mean "betas"?'),
    ]);
  });

  test.each([
    ['{"loras":{"A B":{"rank":4}}}', 'student.train.loras.A B: must be small letters, digits, - and _. Give it'],
    ['{"loras":{}}', 'student.train.loras: names no LoRA'],
    ['{"loras":{"a":{"rank":0}}}', 'student.train.loras.a.rank: must be '],
    ['{"lora":{"rnk":4}}', 'student.train.lora.rnk: unknown key "rnk". Did you mean "rank"?'],
  ])('of several ways to say what is trained, the one that was meant is explained: %s', (train, what) => {
    expect(problems(RECIPE, [`student.train=${train}`])).toEqual([expect.stringContaining(what)]);
  });

  test.each([
    [
      'a slip in a key',
      '"guidance": 5',
      '"guidence": 5',
      'recipe.json:8:28 method.guidence: unknown key "guidence". Did you mean "guidance"?',
    ],
    [
      'a key from nowhere',
      '"name":',
      '"colour": 1, "name":',
      'recipe.json:4:3 colour: unknown key "colour". Known here:',
    ],
    ['an unknown method', '"cfg"', '"cgf"', 'recipe.json:8:21 method.id: unknown method "cgf". Did you mean "cfg"?'],
    [
      'a method without a name',
      '"id": "cfg", ',
      '',
      'recipe.json:8:13 method.id: "id" is missing. Add it. One of "cfg"',
    ],
    ['a wrong type', '250', '"250"', 'recipe.json:9:26 training.steps: must be a number, but is "250".'],
    ['a fraction of a step', '250', '2.5', 'recipe.json:9:26 training.steps: must be a whole number, but is 2.5.'],
    ['a number out of range', '1e-4', '0', 'training.optimizer.lr: must be above 0.'],
    [
      'a missing key',
      '"steps": 250, ',
      '',
      'recipe.json:9:15 training.steps: "steps" is missing. Add it. Updates of the whole run.',
    ],
    ['another version', '"version": 1', '"version": 2', 'recipe.json:3:14 version: must be 1.'],
    ['a prototype', '"name":', '"__proto__": {}, "name":', '__proto__: unknown key "__proto__".'],
    [
      'no teacher where the method needs one',
      '"weight": 0.5',
      '"weight": 0',
      'teachers: method "cfg" needs at least one teacher',
    ],
    ['a teacher named like a path', '"animals"', '"../animals"', 'teachers[0].id: must be small letters'],
    ['a wrong branch', '"base" }', '"base", "train": "lora" }', 'student.train: must be "unet" or an object.'],
    [
      'a slip inside a branch',
      '"base" }',
      '"base", "train": { "lora": { "rnk": 4 } } }',
      'student.train.lora.rnk: unknown key "rnk". Did you mean "rank"?',
    ],
    [
      'adapters on codes',
      '"weight": 0.5',
      '"storage": "nf4", "lora": [{ "file": "a.safetensors" }]',
      'teachers[0].storage: adapters cannot be laid into codes',
    ],
    ['targets that are none', '"base" }', '"base", "train": { "lora": { "targets": [] } } }', 'targets'],
  ])('%s', (_, good, bad, expected) => {
    expect(RECIPE).toContain(good);
    expect(problems(RECIPE.replace(good, bad)).join('\n')).toContain(expected);
  });

  test('names all its problems at once', () => {
    const several = RECIPE.replace('250', '-1').replace('"weight"', '"wieght"');
    expect(problems(several)).toHaveLength(2);
  });

  test('names the override that is wrong', () => {
    expect(problems(RECIPE, ['training.stepps=3'])[0]).toContain(
      '--set training.stepps=3 training.stepps: unknown key',
    );
    expect(() => load(RECIPE, ['teachers.1.weight=3'])).toThrow('the list has no entry 1');
    expect(() => load(RECIPE, ['training'])).toThrow('an override is key=value');
  });

  test.each([
    ['a syntax error', '{\n  "version" 1 }', '/r.json:2:13: not JSON: colon expected'],
    ['an empty file', '', '/r.json:1:1: not JSON: value expected'],
    ['a key given twice', '{ "name": "a", "name": "b" }', '/r.json:1:16: "name" is given twice'],
    ['endless nesting', '['.repeat(100_000), '/r.json:1:65: nested more than 64 deep'],
  ])('%s', (_, text, message) => {
    expect(() => parseDocument('/r.json', text)).toThrow(message);
  });
});

describe('a recipe file', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'potstill-recipe-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test('that is not there is named', async () => {
    await expect(loadRecipe(join(folder, 'none.json'))).rejects.toMatchObject({
      code: 'ERR_RECIPE_FILE',
      kind: 'input',
    });
  });

  test('that is far too large is not read', async () => {
    const file = join(folder, 'large.json');
    await writeFile(file, ' '.repeat(MAX_RECIPE_BYTES + 1));
    await expect(loadRecipe(file)).rejects.toThrow('a recipe at most');
  });
});

test('a folder is named as one', async () => {
  await expect(loadRecipe(import.meta.dirname)).rejects.toMatchObject({
    code: 'ERR_RECIPE_FILE',
    where: import.meta.dirname,
  });
});

describe('data for validation', () => {
  const DATA = 'data=[{"images":"a"},{"images":"b","use":"validation"}]';
  const whats = (...set: string[]): string[] => problems(RECIPE, set);

  test('leaves the share of held-out images unsaid; without it, there is one', () => {
    const validated = 'training.validation={"every":10}';
    expect(load(RECIPE, [validated]).recipe.training.validation?.fraction).toBe(0.05);
    const { recipe } = load(RECIPE, [validated, DATA]);
    expect(recipe.training.validation).toEqual({ every: 10, samples: 32, draws: 4 });
    expect(recipe.data.map(({ use }) => use)).toEqual(['train', 'validation']);
  });

  test('cannot be stated together with a share', () => {
    expect(whats(DATA, 'training.validation={"fraction":0.1}')).toEqual([
      expect.stringMatching(/training\.validation\.fraction: data\[1\] is held out as a whole.*one of the two/),
    ]);
  });

  test('is not all there is, and takes nothing that training would', () => {
    expect(whats('data=[{"images":"b","use":"validation"}]')).toEqual([expect.stringContaining('nothing to train on')]);
    const odd = '{"images":"b","use":"validation","repeats":2,"captionDropout":0.1,"lossWeight":2}';
    expect(whats(`data=[{"images":"a"},${odd}]`)).toEqual([
      expect.stringMatching(/data\[1\]\.repeats: is for training/),
      expect.stringMatching(/data\[1\]\.captionDropout: is for training/),
      expect.stringMatching(/data\[1\]\.lossWeight: is for training/),
    ]);
  });
});
