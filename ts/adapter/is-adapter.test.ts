import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { isAdapter } from './index.ts';

const path = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const ADAPTERS = readdirSync(path('test/fixtures/adapters')).filter(
  (name) => name.startsWith('sd') && (name.endsWith('.safetensors') || name.endsWith('_peft')),
);

test.each(ADAPTERS)('%s is an adapter', async (name) => {
  expect(await isAdapter(path(`test/fixtures/adapters/${name}`))).toBe(true);
});

test.each([
  'configs/demo/base',
  'configs/demo/base/unet/diffusion_pytorch_model.safetensors',
  'test/fixtures/adapters/expected.safetensors',
  'README.md',
])('%s is none', async (name) => {
  expect(await isAdapter(path(name))).toBe(false);
});
