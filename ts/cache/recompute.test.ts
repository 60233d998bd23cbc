import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeEchoUnet } from '../../test/support/echo-unet.ts';
import { verdictsOf } from '../../test/support/recomputation.ts';
import { viewSafetensors } from '../../test/support/safetensors.ts';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { extractAdapter } from '../adapter/index.ts';
import { addon, type Engine, loadEngine, unwrap } from '../native/index.ts';
import { buildCache } from './build-cache.ts';
import type { Recomputation, VerificationReport } from './report.ts';
import { verifyCache } from './verify.ts';

let engine: Engine;
let project: TinyProject;
const at = (name: string): string => join(project.folder, name);

beforeAll(async () => {
  engine = await loadEngine();
  project = await makeTinyProject(engine);
  await buildCache(await project.recipe(), { engine });
});
afterAll(() => project[Symbol.dispose]());

/** More than any component has: every entry is drawn. */
const ALL = 10_000;

interface Recomputed {
  readonly report: VerificationReport;
  readonly recomputation: Recomputation;
}

/** Computes all entries again, by both backends; fails when their verdicts differ. */
async function recomputeAll(
  cache: string,
  models: readonly string[] = [at('base'), at('first'), at('second')],
): Promise<Recomputed> {
  const options = {
    recompute: { entries: ALL, models, nonce: 'same' },
    images: { folder: at('pictures') },
  };
  const [native, wasm] = [
    (await verifyCache(cache, { ...options, backend: 'native' })).report,
    (await verifyCache(cache, { ...options, backend: 'wasm' })).report,
  ];
  expect(verdictsOf(wasm)).toEqual(verdictsOf(native));
  if (native.recomputation === undefined) throw new Error('nothing was computed again');
  return { report: native, recomputation: native.recomputation };
}

/** A copy of the cache, with a file changed and the digests made anew, as someone does who hides it. */
async function tamper(component: string, change: (shard: ReturnType<typeof viewSafetensors>) => void): Promise<string> {
  const cache = at('tampered');
  rmSync(cache, { recursive: true, force: true });
  cpSync(at('cache'), cache, { recursive: true });
  const path = join(cache, component, 'shard-00000.safetensors');
  const bytes = readFileSync(path);
  change(viewSafetensors(bytes));
  writeFileSync(path, bytes);
  // Teachers name the seals of what they were made on: those are made anew after it.
  const sealed = component.startsWith('teachers/') ? [component] : [component, 'teachers/first', 'teachers/second'];
  for (const name of sealed) {
    rmSync(join(cache, name, 'seal.json'));
    const plan = readFileSync(join(cache, name, 'plan.json'), 'utf8');
    unwrap(await unwrap(await addon().beginCache(cache, plan)).seal());
  }
  return cache;
}

/** Exchanges two records of equal length. */
function swap(bytes: Buffer | undefined, size: number): void {
  if (bytes === undefined) throw new Error('no such tensor');
  const first = Buffer.from(bytes.subarray(0, size));
  bytes.copyWithin(0, size, 2 * size);
  first.copy(bytes, size);
}

/** Bytes of a record of latents or of a prediction: 4·8·8 values of f16. */
const RECORD = 512;

describe('verifyCache with recomputation', () => {
  it('passes an honest cache and says what it proves', async () => {
    const { report, recomputation } = await recomputeAll(at('cache'));
    expect(report).toMatchObject({ level: 3, verdict: 'ok' });
    expect(report.findings.filter(({ severity }) => severity === 'error')).toEqual([]);
    expect(recomputation).toMatchObject({ nonce: 'same', entries: ALL, omitted: [] });
    expect(recomputation.components.map(({ component }) => component)).toEqual([
      'latents',
      'text',
      'teachers/first',
      'teachers/second',
    ]);
    for (const { entries, compared, wrong, undetected, difference, tolerance } of recomputation.components) {
      expect([compared, wrong, undetected]).toEqual([entries, 0, 0]);
      // Within rounding to f16: nothing is left for the kernels to differ by.
      expect(difference).toBeLessThan(2 ** -11);
      expect(tolerance).toBeLessThan(1e-3);
    }
  });

  it.each<[string, string, (shard: ReturnType<typeof viewSafetensors>) => void, number]>([
    ['two predictions exchanged', 'teachers/first', (shard) => swap(shard.get('cond')?.bytes, RECORD), 2],
    ['a prediction scaled by 1.01', 'teachers/first', (shard) => scale(shard.get('uncond')?.bytes, 1.01), 1],
    ["another picture's latents", 'latents', (shard) => swap(shard.get('latents')?.bytes, RECORD), 2],
    ["another prompt's text", 'text', (shard) => swapText(shard), 2],
  ])('finds %s', async (_, component, change, count) => {
    const { report, recomputation } = await recomputeAll(await tamper(component, change));
    expect(report.verdict).toBe('damaged');
    expect(report.counts[component]?.['recomputed-differs']).toBe(count);
    expect(recomputation.components.find((found) => found.component === component)?.wrong).toBe(count);
  });

  it.each(['nf4', 'int8', 'fp8', 'bf16'])('holds a teacher in %s, as its plan says', async (storage) => {
    const teachers = JSON.stringify([{ id: 'first', model: at('first'), storage }]);
    await buildCache(await project.recipe(`teachers=${teachers}`, `cache.dir=${at(storage)}`), { engine });
    const { report, recomputation } = await recomputeAll(at(storage), [at('base'), at('first')]);
    expect(report.verdict).toBe('ok');
    const computed = recomputation.components.map(({ component, compared, wrong }) => [component, compared > 0, wrong]);
    const isExact = storage !== 'bf16';
    expect(computed).toEqual([
      ['latents', true, 0],
      ['text', true, 0],
      ...(isExact ? [['teachers/first', true, 0]] : []),
    ]);
    expect(recomputation.omitted.map(({ reason }) => reason)).toEqual(
      isExact ? [] : [expect.stringContaining('held in bf16, whose roundings differ')],
    );
    const shard = (cache: string): Buffer => readFileSync(join(at(cache), 'teachers/first/shard-00000.safetensors'));
    expect(shard(storage).equals(shard('cache'))).toBe(false);
  });

  it("finds another teacher's prediction", async () => {
    const other = viewSafetensors(readFileSync(at('cache/teachers/second/shard-00000.safetensors'))).get('cond');
    const cache = await tamper('teachers/first', (shard) => {
      other?.bytes.copy(shard.get('cond')?.bytes ?? Buffer.alloc(0), 0, 0, RECORD);
    });
    const { report } = await recomputeAll(cache);
    const found = report.findings.filter(({ code }) => code === 'recomputed-differs');
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({
      component: 'teachers/first',
      entry: expect.stringMatching(/\|cond$/),
      expected: expect.stringContaining('of what the weights give'),
      found: expect.stringContaining('differs by'),
      training: true,
    });
  });

  it('draws by its own nonce, and again by the one that a report shows', async () => {
    const verify = async (nonce?: string) => {
      const recompute = { entries: 2, models: [at('first')], nonce };
      return (await verifyCache(at('cache'), { recompute, backend: 'native' })).report.recomputation;
    };
    const [first, second] = [await verify(), await verify()];
    expect(first?.nonce).toMatch(/^[0-9a-f]{32}$/);
    expect(second?.nonce).not.toBe(first?.nonce);
    expect(await verify(first?.nonce)).toEqual(first);
    const [teacher] = first?.components ?? [];
    expect(teacher).toMatchObject({ component: 'teachers/first', compared: 2, wrong: 0 });
    expect(teacher?.undetected).toBeLessThan(teacher?.entries ?? 0);
    expect(first?.omitted.map(({ component }) => component)).toEqual(['latents', 'text', 'teachers/second']);
  });

  it('leaves latents out without images, and names images that are not there', async () => {
    const recompute = { entries: ALL, models: [at('base')] };
    const without = await verifyCache(at('cache'), { recompute, backend: 'native' });
    expect(without.report.recomputation?.omitted[0]).toEqual({
      component: 'latents',
      reason: 'the images were not given',
    });
    mkdirSync(at('others'), { recursive: true });
    cpSync(at('pictures'), at('others'), { recursive: true });
    const [line = ''] = readFileSync(at('pictures/captions.jsonl'), 'utf8').split('\n');
    rmSync(join(at('others'), (JSON.parse(line) as { file: string }).file));
    const images = { folder: at('others') };
    const { report } = await verifyCache(at('cache'), { recompute, images, backend: 'native' });
    expect(report.verdict).toBe('ok');
    expect(report.counts['latents']).toEqual({ 'image-absent': 1 });
    expect(report.recomputation?.components[0]).toMatchObject({ component: 'latents', compared: 5, wrong: 0 });
  });

  it('leaves a teacher out whose adapters are not laid on, and says so', async () => {
    const file = at('change.safetensors');
    await extractAdapter({ base: at('first'), tuned: at('second') }, file, { rank: 2 }, {});
    const teachers = JSON.stringify([
      { id: 'plain', model: at('first') },
      { id: 'changed', model: at('first'), lora: [{ file }] },
    ]);
    await buildCache(await project.recipe(`teachers=${teachers}`, `cache.dir=${at('adapted')}`), { engine });
    const { report, recomputation } = await recomputeAll(at('adapted'), [at('base'), at('first')]);
    expect(report.verdict).toBe('ok');
    expect(recomputation.components.map(({ component }) => component)).toContain('teachers/plain');
    expect(recomputation.omitted).toEqual([
      { component: 'teachers/changed', reason: 'it was made with 1 adapters, which are not laid on the model here' },
    ]);
  });

  it.each([
    ['truncated weights', 'unet/diffusion_pytorch_model.safetensors', (bytes: Buffer) => bytes.subarray(0, -100)],
    ['a configuration that is no JSON', 'vae/config.json', () => Buffer.from('{')],
    ['a UNet that is none, and a sound VAE', 'unet/config.json', () => Buffer.from('{')],
  ])('refuses a model with %s, by both backends', async (_, name, broken) => {
    cpSync(at('base'), at('broken'), { recursive: true });
    writeFileSync(at(`broken/${name}`), broken(readFileSync(at(`broken/${name}`))));
    for (const backend of ['native', 'wasm'] as const) {
      const verified = verifyCache(at('cache'), { recompute: { entries: 1, models: [at('broken')] }, backend });
      await expect(verified, backend).rejects.toMatchObject({ kind: 'input' });
    }
    rmSync(at('broken'), { recursive: true });
  });

  it('refuses a model that made nothing of the cache, by both backends', async () => {
    await writeEchoUnet(engine, at('stranger'), 9);
    for (const backend of ['native', 'wasm'] as const) {
      const recompute = { entries: 1, models: [at('first'), at('stranger')] };
      await expect(verifyCache(at('cache'), { recompute, backend })).rejects.toMatchObject({
        code: 'ERR_MODEL_FOREIGN',
        kind: 'input',
        message: expect.stringMatching(/stranger.*teachers\/first was made with unet .*…, the model has/),
      });
      const missing = { entries: 1, models: [at('nowhere')] };
      await expect(verifyCache(at('cache'), { recompute: missing, backend })).rejects.toMatchObject({ kind: 'input' });
    }
  });
});

/** Multiplies the first record by a factor. */
function scale(bytes: Buffer | undefined, factor: number): void {
  if (bytes === undefined) throw new Error('no such tensor');
  for (let offset = 0; offset < RECORD; offset += 2) {
    bytes.writeUInt16LE(toHalf(fromHalf(bytes.readUInt16LE(offset)) * factor), offset);
  }
}

/** Exchanges the first two captions' states. */
function swapText(shard: ReturnType<typeof viewSafetensors>): void {
  const states = shard.get('encoder_hidden_states');
  const records = states?.shape[0] ?? 0;
  swap(states?.bytes, (states?.bytes.length ?? 0) / records);
}

function fromHalf(bits: number): number {
  const [sign, exponent, fraction] = [bits >> 15, (bits >> 10) & 31, bits & 1023];
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return sign === 1 ? -magnitude : magnitude;
}

/** Of normal and subnormal halves; rounds to the nearest. */
function toHalf(value: number): number {
  const magnitude = Math.abs(value);
  const exponent = Math.max(-14, Math.floor(Math.log2(magnitude === 0 ? 2 ** -14 : magnitude)));
  const units = Math.round(magnitude / 2 ** (exponent - 10));
  const bits = units + (units >= 1024 ? (exponent + 14) * 1024 : 0);
  return (value < 0 ? 0x8000 : 0) | bits;
}
