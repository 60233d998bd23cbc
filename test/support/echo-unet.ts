import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../../ts/native/engine.ts';
import { Unet } from '../../ts/native/unet.ts';
import { decodeSafetensors, encodeSafetensors, type TestTensor } from './safetensors.ts';

const WIDTH = 64;
/** Width of the text: the tiny model's. */
const TEXT_WIDTH = 32;
/** Share of the random network in the prediction. */
const RESIDUE = 0.02;

const UNET = {
  _class_name: 'UNet2DConditionModel',
  attention_head_dim: 2,
  block_out_channels: [WIDTH, WIDTH],
  cross_attention_dim: TEXT_WIDTH,
  down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
  in_channels: 4,
  layers_per_block: 1,
  norm_num_groups: 32,
  out_channels: 4,
  sample_size: 8,
  up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
};

const SCHEDULER = {
  _class_name: 'DDIMScheduler',
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  beta_start: 0.00085,
  num_train_timesteps: 1000,
  prediction_type: 'epsilon',
};

/**
 * Writes a teacher whose cache is as plausible as a trained one's: its UNet predicts its noisy input, normalised, and a
 * little of the caption. At most timesteps that is close to the noise. (A random UNet's predictions have nothing to do
 * with it, which verification rightly calls an error.)
 *
 * @param bias added to every prediction
 */
export async function writeEchoUnet(engine: Engine, folder: string, seed: number, bias = 0): Promise<void> {
  const unet = await Unet.random(engine, UNET, BigInt(seed), 'normal');
  await unet.saveFolder(join(folder, 'unet'), 'f32');
  unet.dispose();
  const file = join(folder, 'unet', 'diffusion_pytorch_model.safetensors');
  const tensors = decodeSafetensors(await readFile(file));
  echo(tensors);
  tensors.get('conv_out.bias')?.values.fill(bias);
  await writeFile(file, encodeSafetensors(tensors));
  await mkdir(join(folder, 'scheduler'), { recursive: true });
  await writeFile(join(folder, 'scheduler', 'scheduler_config.json'), JSON.stringify(SCHEDULER));
}

/**
 * Leads the latents past the network: conv_in writes ±x into pairs of channels, the last resnet's shortcut takes its skip
 * connection whole, the last norm scales each pair, and since SiLU(a) − SiLU(−a) = a, conv_out's differences give x.
 */
function echo(tensors: ReadonlyMap<string, TestTensor>): void {
  const sign = (channel: number): number => (channel % 2 === 0 ? 1 : -1);
  const latentOf = (channel: number): number => Math.floor(channel / 2) % 4;
  const isCentre = (row: number, column: number): boolean => row === 1 && column === 1;
  const last = 'up_blocks.1.resnets.1';
  fill(tensors, 'conv_in.weight', (out, channel, row, column) =>
    isCentre(row, column) && channel === latentOf(out) ? sign(out) : 0,
  );
  fill(tensors, `${last}.conv_shortcut.weight`, (out, channel) => (channel === WIDTH + out ? 1 : 0));
  fill(tensors, 'conv_out.weight', (latent, channel, row, column) =>
    isCentre(row, column) && latent === latentOf(channel) ? (sign(channel) * 4) / (WIDTH / 2) : 0,
  );
  for (const name of ['conv_in.bias', 'conv_norm_out.bias', `${last}.conv_shortcut.bias`]) fill(tensors, name, () => 0);
  fill(tensors, 'conv_norm_out.weight', () => 1);
  for (const name of [`${last}.conv2`, 'up_blocks.1.attentions.1.proj_out']) {
    for (const part of ['weight', 'bias']) {
      const values = tensors.get(`${name}.${part}`)?.values ?? new Float32Array();
      for (const [at, value] of values.entries()) values[at] = value * RESIDUE;
    }
  }
}

/** Sets every value of a tensor by its place, as four indices (0 for axes that it does not have). */
function fill(
  tensors: ReadonlyMap<string, TestTensor>,
  name: string,
  valueAt: (first: number, second: number, third: number, fourth: number) => number,
): void {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new RangeError(`there is no ${name}`);
  const [, second = 1, third = 1, fourth = 1] = tensor.shape;
  for (const at of tensor.values.keys()) {
    tensor.values[at] = valueAt(
      Math.floor(at / (second * third * fourth)),
      Math.floor(at / (third * fourth)) % second,
      Math.floor(at / fourth) % third,
      at % fourth,
    );
  }
}
