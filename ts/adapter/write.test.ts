import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeEchoUnet } from '../../test/support/echo-unet.ts';
import { loadEngine } from '../native/index.ts';
import { backMergeAdapters, extractAdapter, resizeAdapter } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'potstill-adapter-'));
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  const engine = await loadEngine();
  await writeEchoUnet(engine, at('base'), 1);
  await writeEchoUnet(engine, at('tuned'), 2);
  await extractAdapter({ base: at('base'), tuned: at('tuned') }, at('lora.safetensors'), { rank: 4 }, {});
});
afterAll(() => rmSync(folder, { recursive: true }));

it.each<[string, (out: string, signal: AbortSignal) => Promise<unknown>]>([
  [
    'extracting',
    (out, signal) => extractAdapter({ base: at('base'), tuned: at('tuned') }, out, { rank: 4 }, {}, signal),
  ],
  ['resizing', (out, signal) => resizeAdapter(at('lora.safetensors'), out, { rank: 2 }, { model: at('base') }, signal)],
  [
    'merging back',
    (out, signal) => {
      const summands = [{ path: at('lora.safetensors'), weight: 1 }];
      return backMergeAdapters(summands, out, { rank: 2 }, { model: at('base') }, signal);
    },
  ],
])('%s ends when it is interrupted, and writes nothing', async (_, work) => {
  const ended = work(at('out.safetensors'), AbortSignal.abort());
  await expect(ended).rejects.toMatchObject({ code: 'ERR_INTERRUPTED', kind: 'interrupted' });
  expect(existsSync(at('out.safetensors'))).toBe(false);
  await work(at('out.safetensors'), new AbortController().signal);
  rmSync(at('out.safetensors'));
});
