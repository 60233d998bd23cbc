import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeEchoUnet } from '../../test/support/echo-unet.ts';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { type Engine, loadEngine } from '../native/index.ts';
import { run } from './run.ts';

let engine: Engine;
let project: TinyProject;

/** Runs `potstill cache …`. */
async function cache(...words: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: '', stderr: '' };
  const stream = (name: 'stdout' | 'stderr') => ({
    write: (text: string | Uint8Array) => {
      written[name] += text;
      return true;
    },
  });
  return { code: await run(['cache', ...words], stream('stdout'), stream('stderr')), ...written };
}

const at = (...parts: readonly string[]): string => join(project.folder, ...parts);

beforeAll(async () => {
  engine = await loadEngine();
  project = await makeTinyProject(engine);
  await cache('build', project.recipeFile);
});
afterAll(() => project[Symbol.dispose]());

describe('potstill cache build', () => {
  it('says what it built and what was there', async () => {
    const folder = at('fresh');
    const fresh = await cache('build', project.recipeFile, '--set', `cache.dir=${folder}`, '--set', 'cache.draws=1');
    expect(fresh).toMatchObject({ code: 0 });
    expect(fresh.stdout).toContain('teachers/first: 6 records, built');
    const again = await cache('build', project.recipeFile, '--json');
    expect(again.code).toBe(0);
    expect(JSON.parse(again.stdout)).toMatchObject({
      ok: true,
      dir: at('cache'),
      components: [
        { name: 'latents', records: 6, computed: 0 },
        { name: 'text', records: 7, computed: 0 },
        { name: 'teachers/first', records: 72, computed: 0 },
        { name: 'teachers/second', records: 72, computed: 0 },
      ],
    });
  });

  it('refuses the cache of another teacher, and says what to do', async () => {
    await writeEchoUnet(engine, at('other'), 9);
    const { code, stderr } = await cache('build', project.recipeFile, '--set', `teachers[1].model=${at('other')}`);
    expect(code).toBe(2);
    expect(stderr).toContain('ERR_CACHE_FOREIGN');
    expect(stderr).toContain('teacher weights digest');
    expect(stderr).toMatch(/do: +Restore what it was built from, set cache\.dir to another folder, or delete /);
  });

  it.each([
    ['a part that does not exist', ['--only', 'third'], 2, 'the recipe has no teacher "third"'],
    ['what is not built', ['--pairs'], 2, '--pairs is not built yet'],
    ['an unknown key', ['--set', 'cache.folder=x'], 2, 'folder'],
    ['a missing model', ['--set', 'teachers[0].model=nowhere', '--set', 'cache.dir=none'], 2, 'nowhere'],
    ['missing pictures', ['--set', 'data[0].images=nowhere', '--set', 'cache.dir=none'], 2, 'no such folder of images'],
  ])('refuses %s and writes nothing', async (_, words, code, what) => {
    const outcome = await cache('build', project.recipeFile, ...words);
    expect(outcome.stderr).toContain(what);
    expect(outcome.code).toBe(code);
    expect(existsSync('none')).toBe(false);
  });

  it('refuses weights that are cut short or lie about their length', async () => {
    for (const spoil of [
      (file: string) => truncateSync(file, 1000),
      (file: string) => writeFileSync(file, Buffer.alloc(64, 0xff)),
    ]) {
      rmSync(at('spoilt'), { recursive: true, force: true });
      cpSync(at('first'), at('spoilt'), { recursive: true });
      spoil(at('spoilt/unet/diffusion_pytorch_model.safetensors'));
      const words = ['--set', `teachers[0].model=${at('spoilt')}`, '--set', `cache.dir=${at('spoilt-cache')}`];
      const { code, stderr } = await cache('build', project.recipeFile, ...words);
      expect(code).toBe(2);
      expect(stderr).toContain('spoilt/unet/diffusion_pytorch_model.safetensors');
      expect(existsSync(at('spoilt-cache/teachers/first/seal.json'))).toBe(false);
      rmSync(at('spoilt-cache'), { recursive: true, force: true });
    }
  });
});

describe('potstill cache verify', () => {
  it('prints the same document for both backends', async () => {
    const native = await cache('verify', at('cache'), '--backend', 'native', '--json');
    const wasm = await cache('verify', at('cache'), '--backend', 'wasm', '--json');
    // What takes long on a busy machine tells of it on stderr.
    expect(native.stdout).toBe(wasm.stdout);
    expect(wasm.code).toBe(0);
    expect(native.code).toBe(0);
    expect(JSON.parse(native.stdout)).toMatchObject({ format: 'potstill-verification', level: 2, verdict: 'ok' });
  });

  it('computes entries again and says what that proves', async () => {
    const words = ['--recompute', '3', '--model', at('base'), '--model', at('first'), '--images', at('pictures')];
    for (const backend of ['native', 'wasm']) {
      const { code, stdout } = await cache('verify', at('cache'), ...words, '--nonce', 'mine', '--backend', backend);
      expect(stdout).toContain('ok (structure, determinism and recomputation)');
      expect(stdout).toContain('computed again, drawn by the nonce mine:\n  latents: 3 of 6, all right');
      expect(stdout).toMatch(
        /teachers\/first: 3 of 144, all right .*: at most 1\d\d \(\d+\.\d %\) can be wrong, with 99 %/,
      );
      expect(stdout).toContain('teachers/second: not computed again: none of the models given made it');
      expect(code).toBe(0);
    }
  });

  it('exits with 1 for a damaged cache and names the place', async () => {
    cpSync(at('cache'), at('damaged'), { recursive: true });
    const file = at('damaged/text/shard-00000.safetensors');
    const bytes = readFileSync(file);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 9) ^ 4, bytes.length - 9);
    writeFileSync(file, bytes);
    for (const backend of ['native', 'wasm']) {
      const { code, stdout } = await cache('verify', at('damaged'), '--backend', backend);
      expect(code).toBe(1);
      expect(stdout).toContain('DAMAGED (structure and determinism)');
      expect(stdout).toContain('error: shard-digest in text\n  text/shard-00000.safetensors');
      expect(stdout).toMatch(/ {2}do: copy the file again/);
    }
  });

  it.each([
    ['a folder that is no cache', () => [at('pictures')], 'there is no cache here'],
    ['a path that is not there', () => [at('nowhere')], 'no such folder'],
    ['recomputation without a model', () => [at('cache'), '--recompute', '8'], 'there is nothing to compute with'],
    ['a model without a number', () => [at('cache'), '--model', at('base')], 'Say how many entries'],
    ['a nonce alone', () => [at('cache'), '--nonce', 'x'], 'nothing is drawn'],
    [
      'a nonce that is none',
      () => [at('cache'), '--recompute', '1', '--model', at('first'), '--nonce', 'a b'],
      '"a b" is no nonce',
    ],
    [
      "a model that is not the cache's",
      () => [at('cache'), '--recompute', '1', '--model', at('pictures')],
      'is not a diffusers model',
    ],
    ['a folder that is no cache, in WASM', () => [at('pictures'), '--backend', 'wasm'], 'there is no cache here'],
    ['an unknown backend', () => [at('cache'), '--backend', 'cuda'], 'cuda'],
    ['images that are not there', () => [at('cache'), '--images', at('nowhere')], 'no such folder of images'],
    ['a base seed that is none', () => [at('cache'), '--base-seed', 'x'], 'whole number'],
  ])('exits with 2 for %s', async (_, words, what) => {
    const { code, stderr } = await cache('verify', ...words());
    expect(stderr).toContain(what);
    expect(code).toBe(2);
  });
});

it.each(['native', 'wasm'])('what is no cache is told in the same words by both backends (%s)', async (backend) => {
  const { stderr } = await cache('verify', at('pictures'), '--backend', backend);
  expect(stderr.split('\n')).toEqual([
    'error: there is no cache here: neither latents nor text nor teachers have a plan [ERR_CACHE_MISSING]',
    `  where: ${at('pictures')}`,
    expect.stringMatching(/^ {2}do: {4}Name the folder that has latents, text and teachers in it, or make one with/),
    '',
  ]);
});

const bytesIn = (folder: string): number =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);

describe('potstill cache ls and stats', () => {
  it('list what is there, finished or not', async () => {
    cpSync(at('cache'), at('begun'), { recursive: true });
    rmSync(at('begun/teachers/second/seal.json'));
    rmSync(at('begun/teachers/second/shard-00000.safetensors'));
    const { code, stdout } = await cache('ls', at('begun'), '--json');
    expect(code).toBe(0);
    const { components } = JSON.parse(stdout);
    expect(components).toMatchObject([
      { component: 'latents', sealed: true, records: 6, shards: 1, sizes: ['64x64'] },
      { component: 'text', sealed: true, records: 7, shards: 1, tokens: 77 },
      { component: 'teachers/first', sealed: true, records: 72, shards: 2, draws: 12, fields: ['cond', 'uncond'] },
      { component: 'teachers/second', sealed: false, records: 72, shards: 1 },
    ]);
    expect(components.map(({ bytes }: { bytes: number }) => bytes)).toEqual(
      ['latents', 'text', 'teachers/first', 'teachers/second'].map((name) => bytesIn(at('begun', name))),
    );
    const text = (await cache('ls', at('begun'))).stdout;
    expect(text).toContain('pictures of 64x64');
    expect(text).toMatch(/teachers\/second .*timesteps 200 to 999, philox noise; NOT FINISHED/);
  });

  it('compare a sample with a file of the files layout', async () => {
    const { code, stdout } = await cache('stats', at('cache'), '--json');
    expect(code).toBe(0);
    const bytes = bytesIn(at('cache'));
    const statistics = JSON.parse(stdout);
    expect(statistics).toMatchObject({ samples: 72, teachers: 2, bytes, bytesPerSample: bytes / 72 });
    expect(statistics.files.count).toBe(144);
    expect(statistics.ratio).toBeCloseTo(statistics.files.bytes / bytes, 9);
    expect((await cache('stats', at('cache'))).stdout).toContain('72 samples (view, caption, draw), 2 teachers');
  });

  it.each([
    ['a folder that is no cache', () => at('pictures'), 'there is no cache here'],
    ['a path that is not there', () => at('nowhere'), 'no such folder'],
    ['a plan that is cut short', () => at('cut'), 'is not JSON'],
    ['a plan of something else', () => at('odd'), 'is no plan of a cache: views'],
  ])('exit with 2 for %s', async (_, folder, what) => {
    for (const [name, plan] of [
      ['cut', '{"format":'],
      ['odd', '{"component":"latents","dtype":"f16","shardRecords":1,"vae":{"channels":4,"downscale":8},"views":[3]}'],
    ] as const) {
      mkdirSync(at(name, 'latents'), { recursive: true });
      writeFileSync(at(name, 'latents/plan.json'), plan);
    }
    for (const command of ['ls', 'stats']) {
      const { code, stderr } = await cache(command, folder());
      expect(stderr).toContain(what);
      expect(stderr).toMatch(/ {2}do: {4}\S/);
      expect(code).toBe(2);
    }
  });
});

describe('potstill cache export', () => {
  it('writes files that verify and are named after the images', async () => {
    const words = ['--layout', 'files', '--out', at('files'), '--images', at('pictures')];
    const { code, stdout, stderr } = await cache('export', at('cache'), ...words, '--json');
    expect(code, stderr).toBe(0);
    // 6 images with 12 draws for each of two teachers.
    expect(JSON.parse(stdout)).toMatchObject({
      teachers: ['first', 'second'],
      files: 144,
      unnamedImages: 0,
      uncondPredictions: 144,
      latents: 6,
    });
    for (const backend of ['native', 'wasm']) {
      const report = await cache('verify', at('files'), '--backend', backend);
      expect(report.stdout).toContain('files: ok (structure and determinism)');
      expect(report.stdout).toContain('72 files');
      expect(report.stdout).toContain('noise philox; timesteps 200 to 999; seeds of image, view and draw');
      expect(report.code).toBe(0);
    }
    const again = await cache('export', at('cache'), ...words);
    expect(again.stderr).toContain('the folder first is not empty [ERR_OUT]');
    expect(again.code).toBe(2);
  });

  it('is listed and counted as what it is', async () => {
    const listed = await cache('ls', at('files'), '--json');
    const bytes = (teacher: string): number => bytesIn(at('files', teacher));
    expect(JSON.parse(listed.stdout)).toMatchObject({
      layout: 'files',
      components: ['first', 'second'].map((component) => ({
        component,
        files: 72,
        sizes: ['64x64'],
        bytes: bytes(component),
      })),
    });
    expect((await cache('ls', at('files'))).stdout).toMatch(
      /files layout.*\n {2}first {3}72 files .* pictures of 64x64/,
    );
    const counted = await cache('stats', at('files'), '--json');
    expect(JSON.parse(counted.stdout)).toEqual({
      layout: 'files',
      samples: 72,
      teachers: 2,
      bytes: bytes('first') + bytes('second'),
      bytesPerSample: (bytes('first') + bytes('second')) / 72,
    });
    expect((await cache('stats', at('files'))).stdout).toContain('72 samples as files of 2 teachers');
  });

  it('into a folder of the cache itself leaves the cache listed and counted as it was', async () => {
    cpSync(at('cache'), at('both'), { recursive: true });
    const [listed, counted] = [await cache('ls', at('both'), '--json'), await cache('stats', at('both'), '--json')];
    const words = ['--layout', 'files', '--out', at('both/files'), '--images', at('pictures')];
    expect(await cache('export', at('both'), ...words)).toMatchObject({ code: 0 });
    expect(await cache('ls', at('both'), '--json')).toEqual(listed);
    expect(await cache('stats', at('both'), '--json')).toEqual(counted);
    expect(JSON.parse((await cache('ls', at('both/files'), '--json')).stdout)).toMatchObject({ layout: 'files' });
  });

  it.each(['60x64', '8200x64', '064x64', '0x64'])('takes no file of %s for one of the layout', async (size) => {
    const folder = at('named', size, 'first');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `${'0'.repeat(40)}_${size}.safetensors`), '');
    for (const command of ['ls', 'stats', 'verify']) {
      const { code, stderr } = await cache(command, at('named', size));
      expect(stderr).toContain('there is no cache here');
      expect(code).toBe(2);
    }
  });

  it('says what the layout has no place for', async () => {
    const { stdout } = await cache('export', at('cache'), '--layout', 'files', '--out', at('unnamed'));
    expect(stdout).toContain('144 files of 2 teachers (first, second)');
    expect(stdout).toContain('not as it was: 6 images are called by their digests: name their folder with --images');
    expect(stdout).toContain('not as it was: 144 unconditional predictions');
  });

  it.each([
    ['no layout', ['--out', 'x'], '--layout'],
    ['no place', ['--layout', 'files'], '--out'],
    ['another layout', ['--layout', 'shards', '--out', 'x'], 'shards'],
    [
      'images that are not there',
      ['--layout', 'files', '--out', 'x', '--images', 'nowhere'],
      'no such folder of images',
    ],
  ])('exits with 2 for %s', async (_, words, what) => {
    const { code, stderr } = await cache('export', at('cache'), ...words);
    expect(stderr).toContain(what);
    expect(code).toBe(2);
    expect(existsSync('x')).toBe(false);
  });

  it('exits with 2 for what is no cache, and for one that is not finished', async () => {
    for (const folder of [at('pictures'), at('begun')]) {
      const { code, stderr } = await cache('export', folder, '--layout', 'files', '--out', at('none'));
      expect(stderr).toMatch(/\[ERR_CACHE_(MISSING|UNSEALED)\]/);
      expect(code).toBe(2);
    }
    expect(existsSync(at('none'))).toBe(false);
  });
});

describe('potstill cache gc', () => {
  it('says what nothing refers to, and removes it when told to', async () => {
    cpSync(at('cache'), at('littered'), { recursive: true });
    writeFileSync(at('littered/text/.potstill-a1.tmp'), 'half');
    writeFileSync(at('littered/teachers/first/shard-00099.safetensors'), 'of nothing');
    writeFileSync(at('littered/teachers/first/notes.txt'), 'mine');
    const files = (): string[] => readdirSync(at('littered'), { recursive: true }).map(String).sort();
    const before = files();
    const looked = await cache('gc', at('littered'));
    expect(looked.code, looked.stderr).toBe(0);
    expect(looked.stdout).toContain('2 files, 14 B to remove');
    expect(looked.stdout).toContain('text/.potstill-a1.tmp  4 B  a killed build or export left it half written');
    expect(looked.stdout).toContain('do: run it again with --remove');
    expect(files()).toEqual(before);
    const removed = await cache('gc', at('littered'), '--remove', '--json');
    expect(JSON.parse(removed.stdout)).toMatchObject({ ok: true, removed: true, bytes: 14, busy: [], unjudged: [] });
    expect(files()).toEqual(
      before.filter((file) => !file.endsWith('.tmp') && !file.endsWith('shard-00099.safetensors')),
    );
    expect((await cache('gc', at('littered'))).stdout).toContain('nothing to remove');
    expect((await cache('verify', at('littered'))).code).toBe(0);
  });

  it('removes teachers that no recipe reads', async () => {
    cpSync(at('cache'), at('fewer'), { recursive: true });
    const fewer = at('fewer.json');
    const recipe = JSON.parse(readFileSync(project.recipeFile, 'utf8'));
    writeFileSync(
      fewer,
      JSON.stringify({ ...recipe, teachers: recipe.teachers.slice(1), cache: { dir: at('fewer') } }),
    );
    const { code, stdout } = await cache('gc', at('fewer'), '--recipe', fewer, '--remove', '--json');
    expect(code).toBe(0);
    const { garbage } = JSON.parse(stdout);
    expect(garbage.map(({ path }: { path: string }) => path)).toEqual([
      'teachers/first/plan.json',
      'teachers/first/seal.json',
      'teachers/first/shard-00000.safetensors',
      'teachers/first/shard-00001.safetensors',
    ]);
    expect(readdirSync(at('fewer/teachers'))).toEqual(['second']);
    const elsewhere = await cache('gc', at('cache'), '--recipe', fewer);
    expect(elsewhere.stderr).toContain('has its cache in another folder');
    expect(elsewhere.code).toBe(2);
  });

  it('exits with 2 for what is no cache', async () => {
    const { code, stderr } = await cache('gc', at('pictures'), '--remove');
    expect(stderr).toContain('there is no cache here');
    expect(code).toBe(2);
  });
});
