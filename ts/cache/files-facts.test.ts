import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { writeTinySdxl } from '../../test/support/tiny-sdxl.ts';
import { type Engine, loadEngine } from '../native/index.ts';
import { silentProgress } from '../progress.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { buildCache } from './build-cache.ts';
import { exportCache } from './export.ts';
import { importCache } from './import.ts';
import { planCache } from './plan-cache.ts';

let engine: Engine;
let project: TinyProject;
let recipeOf: (dir: string, ...set: readonly string[]) => Promise<ResolvedRecipe>;

const at = (name: string): string => join(project.folder, name);

beforeAll(async () => {
  engine = await loadEngine();
  project = await makeTinyProject(engine);
  await writeTinySdxl(engine, at('sdxl'), 1);
  recipeOf = (dir, ...set) =>
    project.recipe(
      'method={"id":"multi-teacher"}',
      `student.model=${at('sdxl')}`,
      `teachers=[{"id":"same","model":${JSON.stringify(at('sdxl'))}}]`,
      'cache.draws=1',
      'data[0].size=[64,128]',
      `cache.dir=${at(dir)}`,
      ...set,
    );
  await buildCache(await recipeOf('source', 'cache.dtype=f32'), { engine });
  await exportCache(at('source'), at('files'), { images: at('pictures') });
});
afterAll(() => project[Symbol.dispose]());

/** A copy of the files with something else in their headers: texts of one length, so that nothing moves. */
function withHeaders(name: string, from: string, to: string): string {
  cpSync(at('files'), at(name), { recursive: true });
  for (const file of readdirSync(at(`${name}/same`))) {
    const path = at(`${name}/same/${file}`);
    const bytes = readFileSync(path);
    bytes.write(to, bytes.indexOf(from), 'latin1');
    writeFileSync(path, bytes);
  }
  return at(name);
}

describe('what files say of their teacher', () => {
  it('sizes come into the plan as they are; the layout means width first where files say nothing', async () => {
    const stored = ['cache.noise=stored', 'cache.dtype=f32'];
    const imported = async (files: string, dir: string): Promise<unknown> => {
      const recipe = await recipeOf(dir, ...stored);
      await importCache(files, recipe, { engine });
      return (await planCache(recipe)).teachers[0]?.plan.timeIds;
    };
    expect(await imported(at('files'), 'a')).toEqual(Array(6).fill([128, 64, 0, 0, 128, 64]));
    const without = withHeaders('without', 'potstill.time_ids', 'something.unused');
    expect(await imported(without, 'b')).toEqual(Array(6).fill([64, 128, 0, 0, 64, 128]));
    const broken = withHeaders('broken', '"128,64,', '"128;64,');
    await expect(imported(broken, 'c')).rejects.toMatchObject({ code: 'ERR_CACHE_ENTRY' });
  });

  it('predictions of another kind than the teacher makes are refused', async () => {
    const of = withHeaders('of-v', '"potstill.prediction":"epsilon"', '"potstill.prediction":"v"      ');
    await expect(importCache(of, await recipeOf('d'), { engine })).rejects.toMatchObject({
      code: 'ERR_CACHE_ENTRY',
      what: expect.stringContaining("is a prediction of v, and teacher same's model predicts epsilon"),
    });
  });

  it('tells of digits that are lost', async () => {
    const lines: string[] = [];
    const progress = { ...silentProgress, log: (line: string) => lines.push(line) };
    await importCache(at('files'), await recipeOf('e', 'cache.dtype=f16'), { engine, progress });
    expect(lines).toContainEqual(expect.stringContaining('teacher same are in f32'));
    lines.length = 0;
    await importCache(at('files'), await recipeOf('f', 'cache.dtype=f32'), { engine, progress });
    expect(lines).not.toContainEqual(expect.stringContaining('f32'));
  });
});
