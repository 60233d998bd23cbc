import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Engine } from '../../ts/native/engine.ts';
import { Unet } from '../../ts/native/unet.ts';
import { decodeSafetensors, encodeSafetensors } from './safetensors.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const KEYMAPS = join(ROOT, 'test', 'fixtures', 'keymaps');
/** The demo's tokenizer: CLIP's, with few words. */
const TOKENIZER = join(ROOT, 'configs', 'demo', 'base', 'tokenizer');

/** Width of the text and of the narrowest UNet level; GroupNorm has 32 groups. */
const WIDTH = 32;
const TEXT_LAYERS = 2;

const UNET = {
  _class_name: 'UNet2DConditionModel',
  act_fn: 'silu',
  attention_head_dim: 2,
  block_out_channels: [32, 32, 64, 64],
  cross_attention_dim: WIDTH,
  down_block_types: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'],
  flip_sin_to_cos: true,
  freq_shift: 0,
  in_channels: 4,
  layers_per_block: 1,
  norm_eps: 1e-5,
  norm_num_groups: 32,
  out_channels: 4,
  sample_size: 8,
  up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
};
const VAE = {
  _class_name: 'AutoencoderKL',
  act_fn: 'silu',
  block_out_channels: [32, 64, 96, 96],
  down_block_types: Array(4).fill('DownEncoderBlock2D'),
  in_channels: 3,
  latent_channels: 4,
  layers_per_block: 2,
  norm_num_groups: 32,
  out_channels: 3,
  sample_size: 64,
  scaling_factor: 0.18215,
  up_block_types: Array(4).fill('UpDecoderBlock2D'),
};
const SCHEDULER = {
  _class_name: 'DDIMScheduler',
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  clip_sample: false,
  num_train_timesteps: 1000,
  prediction_type: 'epsilon',
  set_alpha_to_one: false,
  steps_offset: 1,
  timestep_spacing: 'leading',
};

/**
 * Writes a diffusers folder with a model in the true SD1.5 shape, narrow enough to train in a blink. Its weights are
 * random and a function of the seed; VAE and text encoder have the real ones' tensors by name, with fewer channels.
 */
export async function writeTinyModel(engine: Engine, folder: string, seed: number): Promise<void> {
  await writeTinyUnet(engine, folder, seed);
  await cp(TOKENIZER, join(folder, 'tokenizer'), { recursive: true });
  const words = Object.keys(JSON.parse(await readFile(join(TOKENIZER, 'vocab.json'), 'utf8'))).length;

  const narrowVae = new Map([
    [128, 32],
    [256, 64],
    [512, 96],
  ]);
  await writeComponent(folder, 'vae', 'config.json', VAE);
  await writeWeights(join(folder, 'vae', 'diffusion_pytorch_model.safetensors'), 'vae.tsv', narrowVae, seed);

  const text = {
    architectures: ['CLIPTextModel'],
    bos_token_id: words - 2,
    eos_token_id: words - 1,
    hidden_act: 'quick_gelu',
    hidden_size: WIDTH,
    intermediate_size: 4 * WIDTH,
    layer_norm_eps: 1e-5,
    max_position_embeddings: 77,
    model_type: 'clip_text_model',
    num_attention_heads: 2,
    num_hidden_layers: TEXT_LAYERS,
    vocab_size: words,
  };
  const narrowText = new Map([
    [768, WIDTH],
    [3072, 4 * WIDTH],
    [49408, words],
  ]);
  await writeComponent(folder, 'text_encoder', 'config.json', text);
  await writeWeights(join(folder, 'text_encoder', 'model.safetensors'), 'clip_l.tsv', narrowText, seed);
  await writeIndex(folder, {
    text_encoder: ['transformers', 'CLIPTextModel'],
    tokenizer: ['transformers', 'CLIPTokenizer'],
    vae: ['diffusers', 'AutoencoderKL'],
  });
}

/**
 * Writes a diffusers folder with a UNet and its schedule alone: a teacher, whose text encoder and VAE are the student's.
 *
 * @param bias of the last layer, to make what is predicted unusable; random when left out
 */
export async function writeTinyUnet(engine: Engine, folder: string, seed: number, bias?: number): Promise<void> {
  await writeComponent(folder, 'scheduler', 'scheduler_config.json', SCHEDULER);
  const unet = await Unet.random(engine, UNET, BigInt(seed), 'normal');
  await unet.saveFolder(join(folder, 'unet'), 'f32');
  unet.dispose();
  if (bias !== undefined) {
    const file = join(folder, 'unet', 'diffusion_pytorch_model.safetensors');
    const tensors = decodeSafetensors(await readFile(file));
    tensors.get('conv_out.bias')?.values.fill(bias);
    await writeFile(file, encodeSafetensors(tensors));
  }
  await writeIndex(folder, {});
}

function writeIndex(folder: string, components: Readonly<Record<string, readonly string[]>>): Promise<void> {
  return writeJson(join(folder, 'model_index.json'), {
    _class_name: 'StableDiffusionPipeline',
    scheduler: ['diffusers', 'DDIMScheduler'],
    unet: ['diffusers', 'UNet2DConditionModel'],
    ...components,
  });
}

async function writeComponent(folder: string, component: string, file: string, config: object): Promise<void> {
  await mkdir(join(folder, component), { recursive: true });
  await writeJson(join(folder, component, file), config);
}

function writeJson(file: string, value: object): Promise<void> {
  return writeFile(file, `${JSON.stringify(value, null, 2)}\n`);
}

/** Random weights for the tensors of a key map (name, tab, shape), each size replaced as `narrow` says. */
async function writeWeights(
  file: string,
  keymap: string,
  narrow: ReadonlyMap<number, number>,
  seed: number,
): Promise<void> {
  const random = uniform(seed);
  const tensors = new Map<string, { shape: number[]; values: Float32Array }>();
  for (const line of (await readFile(join(KEYMAPS, keymap), 'utf8')).trim().split('\n')) {
    const [name = '', sizes = ''] = line.split('\t');
    if (Number(/layers\.(\d+)\./.exec(name)?.[1] ?? 0) >= TEXT_LAYERS) continue;
    const shape = sizes.split('x').map((size) => narrow.get(Number(size)) ?? Number(size));
    const fanIn = shape.slice(1).reduce((product, size) => product * size, 1);
    const isNorm = shape.length === 1 && /norm.*\.weight$/.test(name);
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    // Uniform with the variance 1 / fan-in; biases small, norms one.
    const scale = shape.length === 1 ? 0.02 : Math.sqrt(3 / fanIn);
    for (let index = 0; index < values.length; index += 1) values[index] = isNorm ? 1 : scale * (2 * random() - 1);
    tensors.set(name, { shape, values });
  }
  await writeFile(file, encodeSafetensors(tensors));
}

/** Mulberry32: numbers in [0, 1), good enough for weights that nobody trains. */
function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
