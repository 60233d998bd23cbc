import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../../ts/native/engine.ts';
import { Unet } from '../../ts/native/unet.ts';
import { decodeSafetensors, encodeSafetensors } from './safetensors.ts';
import { writeTinyModel } from './tiny-model.ts';

/** Width of each of the two text encoders, and of the pooled text: the tiny model's. */
const TEXT_WIDTH = 32;
/** Width of the sinusoid of each of the six sizes. */
const SIZE_WIDTH = 16;
const SIZES = 6;

const UNET = {
  _class_name: 'UNet2DConditionModel',
  addition_embed_type: 'text_time',
  addition_time_embed_dim: SIZE_WIDTH,
  attention_head_dim: 2,
  block_out_channels: [64, 64],
  cross_attention_dim: 2 * TEXT_WIDTH,
  down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
  in_channels: 4,
  layers_per_block: 1,
  norm_num_groups: 32,
  out_channels: 4,
  projection_class_embeddings_input_dim: TEXT_WIDTH + SIZES * SIZE_WIDTH,
  sample_size: 8,
  up_block_types: ['CrossAttnUpBlock2D', 'UpBlock2D'],
  use_linear_projection: true,
};

/** Writes a diffusers folder with a model in SDXL's shape: two text encoders, pooled text and sizes; random weights. */
export async function writeTinySdxl(engine: Engine, folder: string, seed: number): Promise<void> {
  await writeTinyModel(engine, folder, seed);
  const unet = await Unet.random(engine, UNET, BigInt(seed), 'normal');
  await unet.saveFolder(join(folder, 'unet'), 'f32');
  unet.dispose();
  const second = join(folder, 'text_encoder_2');
  await cp(join(folder, 'text_encoder'), second, { recursive: true });
  await cp(join(folder, 'tokenizer'), join(folder, 'tokenizer_2'), { recursive: true });
  await addProjection(second);
}

/** Makes a text encoder one with a projection of its pooled output. */
async function addProjection(folder: string): Promise<void> {
  const [config, weights] = [join(folder, 'config.json'), join(folder, 'model.safetensors')];
  const json = JSON.parse(await readFile(config, 'utf8')) as object;
  const architecture = { architectures: ['CLIPTextModelWithProjection'], projection_dim: TEXT_WIDTH };
  await writeFile(config, JSON.stringify({ ...json, ...architecture }));
  const tensors = decodeSafetensors(await readFile(weights));
  const values = Float32Array.from({ length: TEXT_WIDTH ** 2 }, (_, at) => Math.sin(at) / 4);
  tensors.set('text_projection.weight', { shape: [TEXT_WIDTH, TEXT_WIDTH], values });
  await writeFile(weights, encodeSafetensors(tensors));
}
