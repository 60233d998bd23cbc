import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadEngine } from '../ts/native/index.ts';
import type { Outcome } from './support/execute.ts';
import { MAIN, potstillIn } from './support/potstill.ts';
import { decodeSafetensors, encodeSafetensors } from './support/safetensors.ts';
import { makeTinyProject, type TinyProject } from './support/tiny-project.ts';

/** Long enough to be interrupted in the middle. */
const STEPS = 80;
const TRAINING = [
  '--set',
  `training.steps=${STEPS}`,
  '--set',
  'training.batch=2',
  '--set',
  'training.checkpoint.every=1000',
];

let project: TinyProject;
let potstill: (...words: string[]) => Promise<Outcome>;

const at = (...path: string[]): string => join(project.folder, ...path);
const digest = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

/** The project's cache, complete. */
async function buildCache(): Promise<void> {
  const { code, stderr } = await potstill('cache', 'build', 'recipe.json');
  expect(code, stderr).toBe(0);
}

beforeAll(async () => {
  project = await makeTinyProject(await loadEngine({ threads: 1 }));
  potstill = potstillIn(project.folder);
  await buildCache();
});

afterAll(() => project[Symbol.dispose]());

describe('a cache', () => {
  test('that is complete is not built again', async () => {
    const { code, stdout } = await potstill('cache', 'build', 'recipe.json', '--json');
    expect(code).toBe(0);
    const { components } = JSON.parse(stdout);
    expect(components.map(({ computed }: { computed: number }) => computed)).toEqual(components.map(() => 0));
  });

  test('has the same report natively and in WASM, to the byte', async () => {
    const native = await potstill('cache', 'verify', 'cache', '--backend', 'native', '--json');
    const wasm = await potstill('cache', 'verify', 'cache', '--backend', 'wasm', '--json');
    expect(native, native.stderr).toMatchObject({ code: 0 });
    expect(wasm, wasm.stderr).toMatchObject({ code: 0 });
    expect(wasm.stdout).toBe(native.stdout);
  });

  test('lets go of a verification in WASM at Ctrl-C, which tells how far it is', async () => {
    cpSync(at('cache'), at('large'), { recursive: true });
    // No disk holds it, but every byte of it is read.
    truncateSync(at('large', 'text', 'shard-00000.safetensors'), 2 ** 40);
    const words = [MAIN, 'cache', 'verify', 'large', '--backend', 'wasm'];
    const child = spawn(process.execPath, words, { cwd: project.folder, stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    const ended = new Promise((resolve) => child.on('close', resolve));
    await new Promise<void>((resolve) => {
      child.on('close', () => resolve());
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
        if (stderr.includes('verifying')) resolve();
      });
    });
    child.kill('SIGINT');
    expect(await ended, stderr).toBe(130);
    expect(stderr).toMatch(/verifying {2}0%.*1\.10 TB/);
    rmSync(at('large'), { recursive: true });
  });

  test.each(['native', 'wasm'])('with one changed bit is caught (%s)', async (backend) => {
    cpSync(at('cache'), at('damaged'), { recursive: true });
    const folder = at('damaged', 'teachers', 'first');
    const shard = join(folder, readdirSync(folder).find((name) => name.endsWith('.safetensors')) ?? '');
    const bytes = readFileSync(shard);
    bytes[bytes.length - 7] = (bytes[bytes.length - 7] ?? 0) ^ 1;
    writeFileSync(shard, bytes);
    const { code, stdout } = await potstill('cache', 'verify', 'damaged', '--backend', backend);
    expect(code).toBe(1);
    expect(stdout).toContain('teachers/first');
    rmSync(at('damaged'), { recursive: true });
  });

  test('of another teacher is refused, and left as it is', async () => {
    const before = digest(at('cache', 'teachers', 'first', 'seal.json'));
    const { code, stderr } = await potstill('train', 'recipe.json', '--set', 'teachers.0.model=second');
    expect(code, stderr).toBe(2);
    expect(stderr).toContain('ERR_CACHE_FOREIGN');
    expect(digest(at('cache', 'teachers', 'first', 'seal.json'))).toBe(before);
  });
});

describe('a training', () => {
  test('that is interrupted writes a checkpoint and goes on to the same bits, without its teachers', async () => {
    const whole = await potstill('train', 'recipe.json', ...TRAINING, '--set', 'output=whole', '--json');
    expect(whole.code, whole.stderr).toBe(0);

    for (const teacher of ['first', 'second']) rmSync(at(teacher), { recursive: true });
    expect(
      await interrupt(['train', 'recipe.json', ...TRAINING, '--set', 'output=parts'], at('parts', 'metrics.jsonl')),
    ).toBe(130);
    const [checkpoint = ''] = readdirSync(at('parts', 'checkpoints'));
    expect(Number(checkpoint.replace('step-', ''))).toBeLessThan(STEPS);
    const resumed = await potstill('train', 'recipe.json', ...TRAINING, '--set', 'output=parts', '--resume', '--json');
    expect(resumed.code, resumed.stderr).toBe(0);

    const last = `step-${String(STEPS).padStart(6, '0')}`;
    for (const file of ['student.safetensors', 'optimizer.safetensors']) {
      expect(digest(at('parts', 'checkpoints', last, file)), file).toBe(digest(at('whole', 'checkpoints', last, file)));
    }
    const steps = readFileSync(at('parts', 'metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).step);
    expect(steps).toEqual(Array.from({ length: STEPS }, (_, index) => index + 1));
  });
});

/** Sends Ctrl-C once the file has a few lines; returns the exit code. */
function interrupt(words: string[], file: string): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...words], { cwd: project.folder, stdio: 'ignore' });
    const timer = setInterval(() => {
      if (!existsSync(file) || readFileSync(file, 'utf8').split('\n').length < 4) return;
      clearInterval(timer);
      child.kill('SIGINT');
    }, 5);
    child.on('error', reject);
    child.on('close', (code) => {
      clearInterval(timer);
      resolve(code);
    });
  });
}

describe('pictures', () => {
  test('are drawn, the same for the same seed', async () => {
    const words = ['--model', 'base', '--prompt', 'panda face', '--steps', '2', '--size', '64x64', '--seed', '7'];
    for (const out of ['a', 'b']) {
      const { code, stderr } = await potstill('sample', ...words, '--out', out);
      expect(code, stderr).toBe(0);
    }
    const [picture = ''] = readdirSync(at('a'));
    expect(readFileSync(at('a', picture)).subarray(1, 4).toString()).toBe('PNG');
    expect(digest(at('b', picture))).toBe(digest(at('a', picture)));
  });
});

describe('unusable input', () => {
  const inputs = (width: number): Uint8Array =>
    encodeSafetensors(
      new Map([
        ['sample', { shape: [1, 4, 8, 8], values: new Float32Array(256) }],
        ['timestep', { shape: [1], values: new Float32Array([500]) }],
        ['encoder_hidden_states', { shape: [1, 77, width], values: new Float32Array(77 * width) }],
      ]),
    );
  const probe = (model: string, input: string): Promise<Outcome> =>
    potstill('probe', 'unet', '--model', model, '--in', input, '--out', 'out.safetensors');

  test('probe unet answers good input', async () => {
    writeFileSync(at('good.safetensors'), inputs(32));
    expect(await probe('base', 'good.safetensors')).toMatchObject({ code: 0 });
    const { shape } = decodeSafetensors(readFileSync(at('out.safetensors'))).get('prediction') ?? {};
    expect(shape).toEqual([1, 4, 8, 8]);
    rmSync(at('out.safetensors'));
  });

  test.each<[what: string, model: string, input: string, message: string]>([
    ['no model', 'nowhere', 'good.safetensors', 'nowhere'],
    ['no inputs', 'base', 'none.safetensors', 'none.safetensors'],
    ['a text of another width', 'base', 'wide.safetensors', 'encoder_hidden_states'],
    ['truncated inputs', 'base', 'truncated.safetensors', 'truncated.safetensors'],
    ['a header that claims 2^63 bytes', 'base', 'huge.safetensors', 'huge.safetensors'],
    ['a header that is not JSON', 'base', 'garbage.safetensors', 'garbage.safetensors'],
    ['truncated weights', 'broken', 'good.safetensors', 'broken'],
  ])('%s: exit code 2, the place named, nothing written', async (_, model, input, message) => {
    const good = Buffer.from(inputs(32));
    writeFileSync(at('wide.safetensors'), inputs(48));
    writeFileSync(at('truncated.safetensors'), good.subarray(0, good.length - 10));
    writeFileSync(at('huge.safetensors'), Buffer.concat([Buffer.from('ffffffffffffff7f', 'hex'), good]));
    writeFileSync(at('garbage.safetensors'), Buffer.concat([good.subarray(0, 8), Buffer.alloc(good.length, 'x')]));
    cpSync(at('base'), at('broken'), { recursive: true });
    const weights = at('broken', 'unet', 'diffusion_pytorch_model.safetensors');
    writeFileSync(weights, readFileSync(weights).subarray(0, 100_000));

    const { code, stderr, stdout } = await probe(model, input);
    expect(code, stderr).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr).toContain('do:');
    expect(stdout).toBe('');
    expect(existsSync(at('out.safetensors'))).toBe(false);
  });

  test('a recipe whose model is missing starts nothing', async () => {
    const words = ['--set', 'student.model=nowhere', '--set', 'output=never', '--set', 'cache.dir=never-cache'];
    const { code, stderr } = await potstill('train', 'recipe.json', ...words);
    expect(code, stderr).toBe(2);
    expect(stderr).toContain('nowhere');
    expect(existsSync(at('never', 'metrics.jsonl'))).toBe(false);
    expect(existsSync(at('never-cache'))).toBe(false);
  });
});
