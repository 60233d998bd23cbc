import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { potstill } from '../../../test/support/command-line.ts';
import { importRecipe, loadRecipe } from '../index.ts';

const folder = mkdtempSync(join(tmpdir(), 'potstill-onetrainer-'));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
function config(settings: object): string {
  count += 1;
  const file = join(folder, `config-${count}.json`);
  writeFileSync(file, JSON.stringify(settings));
  return file;
}

const imported = async (settings: object) => {
  const { recipe, notes } = await importRecipe([config(settings)], { base: folder, out: join(folder, 'recipe.json') });
  return {
    recipe: recipe as Record<string, never>,
    notes: notes.map(({ code, path, what }) => `${code} ${path}: ${what}`),
  };
};

/** A LoRA for SDXL, as the program writes its settings: those that matter, and some of the many that do not. */
const LORA = {
  __version: 10,
  training_method: 'LORA',
  model_type: 'STABLE_DIFFUSION_XL_10_BASE',
  base_model_name: 'models/sdxl',
  output_model_destination: 'models/mine.safetensors',
  output_dtype: 'FLOAT_16',
  workspace_dir: 'workspace/run',
  tensorboard: true,
  learning_rate: 3e-4,
  learning_rate_scheduler: 'COSINE',
  learning_rate_warmup_steps: 100,
  epochs: 20,
  batch_size: 2,
  gradient_accumulation_steps: 4,
  ema: 'GPU',
  ema_decay: 0.99,
  resolution: '1024',
  gradient_checkpointing: 'ON',
  loss_weight_fn: 'MIN_SNR_GAMMA',
  loss_weight_strength: 5,
  offset_noise_weight: 0.05,
  timestep_distribution: 'LOGIT_NORMAL',
  noising_bias: 0.5,
  noising_weight: 0.25,
  min_noising_strength: 0.1,
  max_noising_strength: 0.9,
  unet: { train: true, learning_rate: 1e-4, weight_dtype: 'FLOAT_16' },
  text_encoder: { train: false },
  text_encoder_2: { train: false },
  lora_rank: 32,
  lora_alpha: 8,
  lora_decompose: true,
  layer_filter_preset: 'attn-mlp',
  optimizer: {
    optimizer: 'PRODIGY',
    beta1: 0.9,
    beta2: 0.99,
    weight_decay: 0.01,
    d_coef: 2,
    growth_rate: 'inf',
    fused: null,
  },
  concepts: [
    { path: 'pictures', type: 'STANDARD', balancing: 3, image: { enable_random_flip: true } },
    {
      path: 'held-out',
      type: 'VALIDATION',
      image: { enable_random_flip: false, enable_random_rotate: true },
    },
    {
      path: 'everything-else',
      type: 'PRIOR_PREDICTION',
      loss_weight: 0.5,
      text_variations: 3,
      image: { enable_random_flip: false },
      text: { enable_tag_shuffling: true, tag_delimiter: ';', keep_tags_count: 2 },
    },
    { path: 'off', enabled: false },
  ],
};

/** What seed 000 added. */
const distilling = (distillation: object) => ({
  ...LORA,
  concepts: [{ path: 'pictures', type: 'DISTILLATION' }],
  offset_noise_weight: 0,
  timestep_distribution: 'UNIFORM',
  distillation: {
    enabled: true,
    parent_model_path: 'models/parent',
    parent_model_type: LORA.model_type,
    ...distillation,
  },
});

describe('a OneTrainer config', () => {
  it('becomes a recipe that loads, setting by setting', async () => {
    const { recipe, notes } = await imported(LORA);
    const size = { size: [1024, 1024], aspect: {} };
    expect(recipe).toMatchObject({
      name: 'mine',
      student: {
        model: 'models/sdxl',
        train: { lora: { rank: 32, alpha: 8, targets: 'transformers', dora: true } },
      },
      data: [
        { images: 'pictures', repeats: 3, flip: true, ...size },
        { images: 'held-out', use: 'validation', ...size },
        {
          images: 'everything-else',
          method: { id: 'prior' },
          lossWeight: 0.5,
          shuffle: { variants: 3, keep: 2, separator: ';' },
        },
      ],
      cache: { timesteps: [100, 900] },
      method: { id: 'denoise' },
      training: {
        batch: 2,
        accumulation: 4,
        optimizer: { id: 'prodigy', lr: 1e-4, betas: [0.9, 0.99], weightDecay: 0.01, dCoef: 2 },
        schedule: { id: 'cosine', warmup: 100 },
        recompute: true,
        ema: { decay: 0.99 },
        loss: { id: 'mse' },
        weighting: { id: 'min-snr', gamma: 5 },
        noiseOffset: 0.05,
        timesteps: { id: 'logit-normal', mean: 0.5, std: 1.25 },
      },
    });
    expect(recipe).not.toHaveProperty('teachers');
    expect(notes.some((note) => note.startsWith('fill-in training.steps') && note.includes('20 epochs'))).toBe(true);
    expect(notes.some((note) => note.includes('concepts[1].image.enable_random_rotate'))).toBe(true);
    expect(notes.filter((note) => note.includes('workspace_dir') || note.includes('tensorboard'))).toEqual([]);
    const file = join(folder, 'recipe.json');
    writeFileSync(file, JSON.stringify(recipe));
    expect((await loadRecipe(file)).recipe.training.optimizer.id).toBe('prodigy');
  });

  it('takes the defaults of the program where it says nothing', async () => {
    const { recipe, notes } = await imported({ model_type: 'STABLE_DIFFUSION_15', training_method: 'LORA' });
    expect(recipe).toMatchObject({
      student: {
        model: 'stable-diffusion-v1-5/stable-diffusion-v1-5',
        train: { lora: { rank: 16, alpha: 1, targets: 'all' } },
      },
      data: [{ images: 'FILL-IN/images', size: [512, 512], flip: true }],
      training: { batch: 1, optimizer: { id: 'adamw', lr: 3e-6 }, schedule: { id: 'constant', warmup: 200 } },
    });
    expect(notes.some((note) => note.startsWith('fill-in data[0].images'))).toBe(true);
    expect(recipe).toMatchObject({
      student: { train: { lora: { text: { rank: 16, alpha: 1, targets: 'transformers' } } } },
    });
    expect(notes.some((note) => note.includes('text encoders stopped being trained'))).toBe(true);
    expect((await imported({ model_type: 'STABLE_DIFFUSION_15' })).recipe).toMatchObject({
      student: { train: 'unet' },
    });
  });

  it('trains the text encoders that were, at their rate', async () => {
    const plain = { ...LORA, optimizer: { optimizer: 'ADAMW' } };
    const one = await imported({ ...plain, text_encoder_2: { train: true, learning_rate: 5e-5 } });
    expect(one.recipe).toHaveProperty('student.train.lora.text', {
      rank: 32,
      alpha: 8,
      targets: 'text_encoder_2.*',
      rate: 0.5,
    });
    const both = await imported({ ...plain, text_encoder: { train: true }, text_encoder_2: { learning_rate: 5e-5 } });
    expect(both.recipe).toHaveProperty('student.train.lora.text.rate', 3);
    expect(both.notes.some((note) => note.includes('rates of their own'))).toBe(true);
    const prodigy = await imported({ ...LORA, text_encoder: { train: true } });
    expect(prodigy.recipe).not.toHaveProperty('student.train.lora.text.rate');
    expect(prodigy.notes.some((note) => note.includes('Prodigy has one step size'))).toBe(true);
    expect((await imported(LORA)).recipe).not.toHaveProperty('student.train.lora.text');
    const whole = await imported({ ...LORA, training_method: 'FINE_TUNE', text_encoder: { train: true } });
    expect(whole.notes.some((note) => note.includes('text encoders were trained too'))).toBe(true);
  });

  it("takes the VAE that was put in place of the model's", async () => {
    const { recipe, notes } = await imported({ ...LORA, vae: { model_name: 'models/vaes/mine.safetensors' } });
    expect(recipe['student']).toMatchObject({ model: 'models/sdxl', vae: 'models/vaes/mine.safetensors' });
    expect(notes.filter((note) => note.includes('vae'))).toEqual([]);
    expect((await imported(LORA)).recipe['student']).not.toHaveProperty('vae');
  });

  it('reads the concepts of the file that it names', async () => {
    writeFileSync(join(folder, 'concepts.json'), JSON.stringify([{ path: 'cats', balancing: 1.4 }]));
    const { recipe, notes } = await imported({ training_method: 'LORA', concept_file_name: 'concepts.json' });
    expect(recipe).toMatchObject({ data: [{ images: 'cats' }] });
    expect(notes.some((note) => note.startsWith('value-changed data[0].repeats') && note.includes('1.4'))).toBe(true);
    writeFileSync(join(folder, 'concepts.json'), '[{ "path": 5 }]');
    await expect(imported({ training_method: 'LORA', concept_file_name: 'concepts.json' })).rejects.toMatchObject({
      code: 'ERR_IMPORT_VALUE',
      where: expect.stringContaining('concepts.json:1:'),
    });
  });

  it('distils guidance where the config does', async () => {
    const { recipe, notes } = await imported(distilling({ target_mode: 'CFG_DISTILL', cfg_scale: 7 }));
    expect(recipe).toMatchObject({
      teachers: [{ id: 'parent', model: 'models/parent' }],
      method: { id: 'cfg', guidance: 7 },
      data: [{ images: 'pictures' }],
    });
    expect(notes.some((note) => note.includes('drew guidance towards 1'))).toBe(true);
    const mixed = { ...distilling({}), concepts: [...LORA.concepts, { path: 'x', type: 'DISTILLATION' }] };
    expect((await imported(mixed)).recipe).toMatchObject({
      method: { id: 'multi-teacher' },
      data: [{ method: { id: 'denoise' } }, { use: 'validation' }, { method: { id: 'prior' } }, {}],
    });
    const rolling = await imported(distilling({ target_mode: 'STEP_ROLLOUT', rollout_steps: 3, rollout_blend: 0.25 }));
    expect(rolling.recipe).toMatchObject({ method: { id: 'cfg', guidance: 1, rolloutSteps: 3, rolloutBlend: 0.25 } });
  });

  it('says that the "KL" of predictions is their squared error, and that its temperature cancels', async () => {
    const { recipe, notes } = await imported(distilling({ loss_type: 'KL_DIVERGENCE', kl_temperature: 2 }));
    expect(recipe).toMatchObject({ training: { loss: { id: 'mse' } } });
    const [said] = notes.filter((note) => note.startsWith('loss '));
    expect(said).toContain('mean squared error, and its temperature (2) cancels');
    const plain = await imported(distilling({ loss_type: 'KL_DIVERGENCE' }));
    expect(plain.notes.filter((note) => note.startsWith('loss ')).join()).not.toContain('temperature');
  });

  it('refuses a temperature where it means nothing', async () => {
    for (const loss of ['MSE', 'MAE', 'HUBER']) {
      await expect(imported(distilling({ loss_type: loss, kl_temperature: 2 }))).rejects.toMatchObject({
        code: 'ERR_IMPORT_VALUE',
        message: expect.stringContaining(`kl_temperature: 2 means nothing for the loss ${loss}`),
      });
    }
  });

  it('leaves fresh noise out of a training on cached predictions', async () => {
    const { recipe, notes } = await imported({ ...distilling({}), offset_noise_weight: 0.1 });
    expect(recipe).not.toHaveProperty('training.noiseOffset');
    expect(notes.some((note) => note.startsWith('not-imported offset_noise_weight'))).toBe(true);
  });

  it.each([
    [{ loss_weight_fn: 'P2' }, { weighting: { id: 'none' } }, 'P2'],
    [{ mse_strength: 0.5, huber_strength: 2, huber_delta: 0.3 }, { loss: { id: 'huber', delta: 0.3 } }, 'was a sum'],
    [{ mse_strength: 0, mae_strength: 1 }, { loss: { id: 'huber' } }, 'mae is not'],
    [{ learning_rate_scheduler: 'REX' }, { schedule: { id: 'cosine' } }, 'REX'],
    [{ optimizer: 'CAME' }, { optimizer: { id: 'adamw' } }, 'CAME'],
    [{ optimizer: { optimizer: 'ADAMW_8BIT' } }, { optimizer: { id: 'adamw' } }, 'ADAMW_8BIT'],
    [{ timestep_distribution: 'HEAVY_TAIL' }, {}, 'HEAVY_TAIL'],
    [{ masked_training: true }, { masks: { unmasked: 0.1 } }, 'masklabel'],
  ])('notes what a recipe says otherwise: %j', async (changes, training, said) => {
    const { recipe, notes } = await imported({ ...LORA, ...changes });
    expect(recipe).toMatchObject({ training });
    expect(notes.some((note) => note.includes(said))).toBe(true);
  });

  it.each([
    [{ model_type: 'FLUX_DEV_1' }, 'no model that potstill trains'],
    [{ training_method: 'EMBEDDING' }, 'has no counterpart'],
    [{ peft_type: 'LOKR' }, 'is not trained here'],
    [{ concepts: [{ path: 'x', enabled: false }] }, 'no concept is enabled'],
    [{ batch_size: 0 }, 'batch_size'],
  ])('refuses what cannot be trained here: %j', async (changes, said) => {
    await expect(imported({ ...LORA, ...changes })).rejects.toMatchObject({ message: expect.stringContaining(said) });
  });

  it('is imported by itself, from the command line too', async () => {
    const files = [config(LORA), config(LORA)];
    await expect(importRecipe(files)).rejects.toMatchObject({ code: 'ERR_IMPORT_CONFLICT' });
    const { code, out } = await potstill('recipe', 'import', files[0] ?? '', '--base', folder);
    expect(code).toBe(0);
    expect(out).toContain('// fill-in: training.steps');
  });
});
