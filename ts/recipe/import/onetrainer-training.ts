import type { Notes } from './notes.ts';
import type { OneTrainerConfig } from './onetrainer-config.ts';

/** Updates, where no config says how many. */
const DEFAULT_STEPS = 10_000;

interface LoopContext {
  /** Whether teachers' predictions are read, so that noise and timesteps are the cache's. */
  readonly cached: boolean;
  readonly notes: Notes;
}

/** The recipe's `training`. */
export function importLoop(config: OneTrainerConfig, { cached, notes }: LoopContext): object {
  const { batch_size: batch, gradient_accumulation_steps: accumulation, epochs } = config;
  notes.note(
    'fill-in',
    'training.steps',
    `is an example's number: ${epochs} epochs were ${epochs} times all pictures with their repeats, divided by ${batch * accumulation}`,
  );
  const checkpointing = config.gradient_checkpointing;
  const recompute = checkpointing !== undefined && checkpointing !== false && checkpointing !== 'OFF';
  return {
    steps: DEFAULT_STEPS,
    batch,
    accumulation,
    optimizer: optimizerOf(config, notes),
    schedule: scheduleOf(config, notes),
    ...(config.clip_grad_norm == null ? {} : { clip: config.clip_grad_norm }),
    ...(recompute ? { recompute } : {}),
    ...(config.ema === 'OFF' ? {} : { ema: { decay: config.ema_decay } }),
    loss: lossOf(config, notes),
    weighting: weightingOf(config, notes),
    ...(config.masked_training ? { masks: masksOf(config, notes) } : {}),
    ...noiseOf(config, cached, notes),
    ...(config.output_dtype === 'FLOAT_32' ? { save: { dtype: 'f32' } } : {}),
  };
}

function optimizerOf({ optimizer: told, learning_rate, unet }: OneTrainerConfig, notes: Notes): object {
  const lr = unet.learning_rate ?? learning_rate;
  const [kind = '', variant] = /^(.*?)(?:_(8BIT|ADV|SCHEDULE_FREE))?$/.exec(told.optimizer)?.slice(1) ?? [];
  if (variant !== undefined) {
    notes.note('value-changed', 'training.optimizer', `${told.optimizer} is here ${kind}, in f32`);
  }
  const stated = <T extends object>(values: T): object =>
    Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined && value !== null));
  const betas = told.beta1 == null || told.beta2 == null ? undefined : [told.beta1, told.beta2];
  const common = { lr, weightDecay: told.weight_decay };
  switch (kind) {
    case 'ADAMW':
      return { id: 'adamw', ...stated({ ...common, betas, eps: told.eps }) };
    case 'LION':
      return { id: 'lion', ...stated({ ...common, betas }) };
    case 'PRODIGY': {
      const found = { d0: told.d0, dCoef: told.d_coef, growthRate: finite(told.growth_rate) };
      const flags = { biasCorrection: told.use_bias_correction, safeguardWarmup: told.safeguard_warmup };
      return { id: 'prodigy', ...stated({ ...common, betas, eps: told.eps, ...found, ...flags }) };
    }
    case 'ADAFACTOR': {
      const eps = told.eps == null || told.eps2 == null ? undefined : [told.eps, told.eps2];
      const sizes = { clipThreshold: told.clip_threshold, decayRate: told.decay_rate };
      const steps = { scaleParameter: told.scale_parameter, relativeStep: told.relative_step };
      return { id: 'adafactor', ...stated({ ...common, eps, ...sizes, ...steps }) };
    }
    default:
      notes.note(
        'value-changed',
        'training.optimizer',
        `${told.optimizer} is not among a recipe's: adamw is, with its learning rate`,
      );
      return { id: 'adamw', lr };
  }
}

/** "inf" is written for no limit. */
function finite(value: number | string | null | undefined): number | undefined {
  return typeof value === 'number' ? value : undefined;
}

function scheduleOf(config: OneTrainerConfig, notes: Notes): object {
  const { learning_rate_scheduler: kind, learning_rate_warmup_steps: told } = config;
  const warmup = told >= 1 ? Math.round(told) : Math.round(told * DEFAULT_STEPS);
  if (told > 0 && told < 1) {
    notes.note(
      'value-changed',
      'training.schedule.warmup',
      `is ${warmup}: ${told} of all updates there, which are not known`,
    );
  }
  const id = { CONSTANT: 'constant', LINEAR: 'linear', COSINE: 'cosine' }[kind];
  if (id === undefined) {
    notes.note('value-changed', 'training.schedule', `${kind} is not among a recipe's: cosine is`);
  }
  return { id: id ?? 'cosine', warmup };
}

/** Sums of several losses have no counterpart: the strongest is taken. */
function lossOf(config: OneTrainerConfig, notes: Notes): object {
  const strengths = [
    { id: 'mse', strength: config.mse_strength, name: 'mse_strength' },
    { id: 'huber', strength: config.huber_strength, name: 'huber_strength' },
    { id: 'log-cosh', strength: config.log_cosh_strength, name: 'log_cosh_strength' },
    { id: 'mae', strength: config.mae_strength, name: 'mae_strength' },
  ].filter(({ strength }) => strength !== 0);
  const [first] = [...strengths].sort((a, b) => b.strength - a.strength);
  if (strengths.length > 1 || (first !== undefined && first.strength !== 1)) {
    const sum = strengths.map(({ name, strength }) => `${name} ${strength}`).join(', ');
    notes.note('value-changed', 'training.loss', `was a sum (${sum}); it is the strongest of them, as it is`);
  }
  if (first?.id === 'huber') return { id: 'huber', delta: config.huber_delta };
  if (first?.id === 'mae') {
    notes.note('value-changed', 'training.loss', "mae is not among a recipe's: huber with a small delta goes like it");
    const SMALL = 0.01;
    return { id: 'huber', delta: SMALL };
  }
  return { id: first?.id ?? 'mse' };
}

function weightingOf(config: OneTrainerConfig, notes: Notes): object {
  const { loss_weight_fn: kind, loss_weight_strength: gamma } = config;
  if (kind === 'CONSTANT') return { id: 'none' };
  if (kind === 'MIN_SNR_GAMMA') return { id: 'min-snr', gamma };
  if (kind === 'DEBIASED_ESTIMATION') {
    notes.note(
      'value-changed',
      'training.weighting',
      'of models that predict v it was 1/√(SNR + 1); here it is 1/(SNR + 1)',
    );
    return { id: 'debiased' };
  }
  notes.note('value-changed', 'training.weighting', `${kind} is not among a recipe's: none is`);
  return { id: 'none' };
}

function masksOf(config: OneTrainerConfig, notes: Notes): object {
  if (config.unmasked_probability > 0) {
    const what = `of ${config.unmasked_probability} of the steps masks were left away; a recipe always heeds them`;
    notes.note('not-imported', 'unmasked_probability', what);
  }
  return {
    unmasked: config.unmasked_weight,
    prior: config.masked_prior_preservation_weight,
    normalise: config.normalize_masked_area_loss,
  };
}

/** Noise and timesteps: of fresh draws alone, as in a recipe. */
function noiseOf(config: OneTrainerConfig, cached: boolean, notes: Notes): object {
  const { offset_noise_weight: noiseOffset, timestep_distribution: kind, timestep_shift: shift } = config;
  if (config.generalized_offset_noise) {
    notes.note('not-imported', 'generalized_offset_noise', 'the offset is the same at every timestep');
  }
  if (config.perturbation_noise_weight !== 0) {
    notes.note('not-imported', 'perturbation_noise_weight', 'a recipe has no such noise');
  }
  const distribution = distributionOf(kind, config);
  if (distribution === undefined) {
    notes.note('value-changed', 'training.timesteps', `${kind} is not among a recipe's: uniform is`);
  }
  const drawn = { ...(distribution ?? { id: 'uniform' }), ...(shift === 1 ? {} : { shift }) };
  const isPlain = drawn.id === 'uniform' && shift === 1;
  if (cached && (noiseOffset !== 0 || !isPlain)) {
    const what =
      'noise offset, distribution and shift of timesteps are for fresh draws; teachers predict at those of the cache';
    notes.note('not-imported', 'offset_noise_weight, timestep_distribution', what);
    return {};
  }
  return { ...(noiseOffset === 0 ? {} : { noiseOffset }), ...(isPlain ? {} : { timesteps: drawn }) };
}

function distributionOf(kind: string, { noising_bias, noising_weight }: OneTrainerConfig): { id: string } | undefined {
  if (kind === 'UNIFORM') return { id: 'uniform' };
  if (kind !== 'LOGIT_NORMAL') return undefined;
  const logitNormal = { id: 'logit-normal', mean: noising_bias, std: noising_weight + 1 };
  return logitNormal;
}
