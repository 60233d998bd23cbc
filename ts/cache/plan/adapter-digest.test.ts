import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestAdapter } from './adapter-digest.ts';

const PEFT = join(import.meta.dirname, '../../../test/fixtures/adapters/sd15_lora_peft');
const FILES = ['adapter_config.json', 'adapter_model.safetensors'];

let folder = '';
const at = (name: string): string => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'potstill-adapter-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A peft folder of links, as the Hub's cache has one. */
function linkTo(source: string, name: string): string {
  mkdirSync(at(name));
  for (const file of FILES) symlinkSync(join(source, file), join(at(name), file));
  return at(name);
}

test('a folder of links is what they lead to', async () => {
  cpSync(PEFT, at('copy'), { recursive: true });
  const digest = await digestAdapter(at('copy/unet'));
  expect(await digestAdapter(linkTo(at('copy/unet'), 'links'))).toBe(digest);
  const config = at('copy/unet/adapter_config.json');
  writeFileSync(config, readFileSync(config, 'utf8').replace(/"lora_alpha": [^,]+/, '"lora_alpha": 77'));
  expect(await digestAdapter(at('links'))).not.toBe(digest);
  expect(await digestAdapter(at('links'))).toBe(await digestAdapter(at('copy/unet')));
  // One folder for each network, itself a link.
  mkdirSync(at('networks'));
  symlinkSync(at('copy/unet'), at('networks/unet'));
  expect(await digestAdapter(at('networks'))).toBe(await digestAdapter(at('copy')));
});

test('what is not read of a folder changes nothing', async () => {
  cpSync(PEFT, at('copy'), { recursive: true });
  writeFileSync(at('copy/README.md'), 'about');
  expect(await digestAdapter(at('copy'))).toBe(await digestAdapter(PEFT));
});

test("a file of peft's has its scale in the configuration beside it, others in themselves", async () => {
  cpSync(PEFT, at('copy'), { recursive: true });
  const file = at('copy/unet/adapter_model.safetensors');
  const digest = await digestAdapter(file);
  expect(digest).toBe(await digestAdapter(at('copy/unet')));
  const config = at('copy/unet/adapter_config.json');
  writeFileSync(config, readFileSync(config, 'utf8').replace(/"lora_alpha": [^,]+/, '"lora_alpha": 77'));
  expect(await digestAdapter(file)).not.toBe(digest);
  const kohya = join(PEFT, '../sd15_kohya.safetensors');
  cpSync(kohya, at('copy/unet/kohya.safetensors'));
  expect(await digestAdapter(at('copy/unet/kohya.safetensors'))).toBe(await digestAdapter(kohya));
});
