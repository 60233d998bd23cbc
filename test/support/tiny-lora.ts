import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../../ts/native/engine.ts';
import { Lora } from '../../ts/native/lora.ts';
import { Unet } from '../../ts/native/unet.ts';
import { decodeSafetensors, encodeSafetensors } from './safetensors.ts';

/** Of a value of the LoRA's factors: enough to be seen in predictions, too little to make them implausible. */
const STRENGTH = 0.05;

/** Writes a LoRA of rank 2 on the attention of a model, which changes what it predicts. */
export async function writeTinyLora(engine: Engine, model: string, file: string): Promise<void> {
  const unet = await Unet.open(engine, join(model, 'unet'));
  const lora = await Lora.create(unet, { rank: 2, alpha: 2, targets: ['attention'], seed: 1n });
  const weights = `${file}.weights`;
  await lora.saveWeights(weights);
  const tensors = decodeSafetensors(await readFile(weights));
  for (const { values } of tensors.values()) {
    for (const index of values.keys()) values[index] = STRENGTH * Math.sin(index + 1);
  }
  await writeFile(weights, encodeSafetensors(tensors));
  await lora.loadWeights(weights);
  await lora.save(file, { target: { dialect: 'kohya', dtype: 'f32', title: 'tiny' }, metadata: {}, details: '{}' });
  await rm(weights);
  lora.dispose();
  unet.dispose();
}
