import { z } from 'zod';

/**
 * What is read of a OneTrainer config (config versions 0 to 12, and the `distillation` section of its pull request 1360):
 * names and defaults of its settings. What is not named here is passed over and told of, unless it is among `SILENT`.
 */

const name = z.string().min(1);
const positive = z.number().positive();

/** A part of the model: whether it is trained, and how fast. */
const part = z
  .looseObject({ train: z.boolean().default(true), learning_rate: z.number().positive().nullish() })
  .prefault({});

const optimizer = z.looseObject({
  optimizer: z.string().default('ADAMW'),
  beta1: z.number().nullish(),
  beta2: z.number().nullish(),
  eps: z.number().nullish(),
  eps2: z.number().nullish(),
  weight_decay: z.number().nullish(),
  d0: z.number().nullish(),
  d_coef: z.number().nullish(),
  // "inf" where there is no limit.
  growth_rate: z.union([z.number(), z.string()]).nullish(),
  use_bias_correction: z.boolean().nullish(),
  safeguard_warmup: z.boolean().nullish(),
  clip_threshold: z.number().nullish(),
  decay_rate: z.number().nullish(),
  scale_parameter: z.boolean().nullish(),
  relative_step: z.boolean().nullish(),
});

/** A folder of pictures. */
export const concept = z.looseObject({
  name: z.string().optional(),
  path: z.string(),
  enabled: z.boolean().default(true),
  type: z.enum(['STANDARD', 'VALIDATION', 'PRIOR_PREDICTION', 'DISTILLATION']).optional(),
  validation_concept: z.boolean().optional(),
  text_variations: z.int().min(1).default(1),
  balancing: z.number().min(0).default(1),
  balancing_strategy: z.string().default('REPEATS'),
  loss_weight: z.number().min(0).default(1),
  image: z.looseObject({ enable_random_flip: z.boolean().default(true) }).prefault({}),
  text: z
    .looseObject({
      prompt_source: z.string().default('sample'),
      prompt_path: z.string().optional(),
      enable_tag_shuffling: z.boolean().default(false),
      tag_delimiter: z.string().default(','),
      keep_tags_count: z.int().min(0).default(1),
    })
    .prefault({}),
});
export type Concept = z.output<typeof concept>;

/** The file that `concept_file_name` names. */
export const conceptFile = z.array(concept);

export const onetrainerConfig = z.looseObject({
  training_method: z.string().default('FINE_TUNE'),
  model_type: z.string().default('STABLE_DIFFUSION_15'),
  base_model_name: name.default('stable-diffusion-v1-5/stable-diffusion-v1-5'),
  output_model_destination: name.optional(),
  output_dtype: z.string().optional(),
  concept_file_name: z.string().default('training_concepts/concepts.json'),
  concepts: z.array(concept).nullish(),
  aspect_ratio_bucketing: z.boolean().default(true),
  // Numbers in old configs.
  resolution: z.union([z.string(), z.number()]).transform(String).default('512'),

  learning_rate: positive.default(3e-6),
  learning_rate_scheduler: z.string().default('CONSTANT'),
  learning_rate_warmup_steps: z.number().min(0).default(200),
  epochs: z.int().min(1).default(100),
  batch_size: z.int().min(1).default(1),
  gradient_accumulation_steps: z.int().min(1).default(1),
  ema: z.string().default('OFF'),
  ema_decay: z.number().default(0.999),
  gradient_checkpointing: z.union([z.string(), z.boolean()]).optional(),
  // A name, with its settings beside it, in configs of version 0.
  optimizer: z.union([optimizer, z.string().transform((id) => optimizer.parse({ optimizer: id }))]).prefault({}),
  clip_grad_norm: positive.nullish(),
  dropout_probability: z.number().default(0),

  mse_strength: z.number().default(1),
  mae_strength: z.number().default(0),
  log_cosh_strength: z.number().default(0),
  huber_strength: z.number().default(0),
  huber_delta: positive.default(1),
  loss_weight_fn: z.string().default('CONSTANT'),
  loss_weight_strength: positive.default(5),

  offset_noise_weight: z.number().default(0),
  generalized_offset_noise: z.boolean().default(false),
  perturbation_noise_weight: z.number().default(0),
  min_noising_strength: z.number().min(0).max(1).default(0),
  max_noising_strength: z.number().min(0).max(1).default(1),
  timestep_distribution: z.string().default('UNIFORM'),
  noising_weight: z.number().default(0),
  noising_bias: z.number().default(0),
  timestep_shift: positive.default(1),

  unet: part,
  text_encoder: part,
  text_encoder_2: part,
  /** A VAE in place of the model's. */
  vae: z.looseObject({ model_name: z.string().default('') }).prefault({}),

  masked_training: z.boolean().default(false),
  unmasked_probability: z.number().default(0.1),
  unmasked_weight: z.number().min(0).max(1).default(0.1),
  normalize_masked_area_loss: z.boolean().default(false),
  masked_prior_preservation_weight: z.number().min(0).default(0),

  peft_type: z.string().default('LORA'),
  lora_model_name: z.string().default(''),
  lora_rank: z.int().min(1).default(16),
  lora_alpha: positive.default(1),
  lora_decompose: z.boolean().default(false),
  layer_filter: z.string().default(''),
  layer_filter_preset: z.string().default('full'),
  layer_filter_regex: z.boolean().default(false),

  distillation: z
    .looseObject({
      enabled: z.boolean().default(false),
      parent_model_path: z.string().default(''),
      parent_model_type: z.string().optional(),
      loss_type: z.enum(['MSE', 'MAE', 'HUBER', 'KL_DIVERGENCE']).default('MSE'),
      loss_weight: z.number().min(0).default(1),
      kl_temperature: positive.default(1),
      target_mode: z.enum(['RAW', 'SCALED_LOSS_WEIGHT', 'CFG_DISTILL', 'STEP_ROLLOUT']).default('SCALED_LOSS_WEIGHT'),
      cfg_scale: z.number().default(1),
      rollout_steps: z.int().min(1).default(2),
      rollout_blend: z.number().min(0).max(1).default(0.5),
    })
    .prefault({}),
});
export type OneTrainerConfig = z.output<typeof onetrainerConfig>;

/** Sections and keys whose rest says nothing of what is trained: the program's own housekeeping. */
export const SILENT = new Set([
  '__version',
  'debug_mode',
  'debug_dir',
  'workspace_dir',
  'cache_dir',
  'tensorboard',
  'tensorboard_expose',
  'tensorboard_always_on',
  'tensorboard_port',
  'continue_last_backup',
  'prevent_overwrites',
  'include_train_config',
  'output_model_format',
  'latent_caching',
  'image_caching',
  'text_caching',
  'clear_cache_before_training',
  'dataloader_threads',
  'caching_threads',
  'train_device',
  'temp_device',
  'only_cache',
  'optimizer_defaults',
  'secrets',
  'cloud',
  // Parts of other models, and how parts are held in memory.
  'prior',
  'transformer',
  'unconditional_transformer',
  'text_encoder_3',
  'text_encoder_4',
  'effnet_encoder',
  'decoder',
  'decoder_text_encoder',
  'decoder_vqgan',
  'vae',
  'unet',
  'text_encoder',
  'text_encoder_2',
  'quantization',
  'samples',
  'sample_definition_file_name',
  'embedding',
]);
