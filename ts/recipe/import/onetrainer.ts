import { existsSync } from 'node:fs';
import { basename, extname } from 'node:path';
import { inputError } from '../../errors.ts';
import { parseDocument } from '../document.ts';
import { readRecipe } from '../load.ts';
import type { Notes } from './notes.ts';
import { type Concept, conceptFile, type OneTrainerConfig } from './onetrainer-config.ts';
import { importLoop } from './onetrainer-training.ts';
import { parse } from './parse.ts';

/** A config as it was read. */
interface ReadOneTrainer {
  readonly file: string;
  readonly config: OneTrainerConfig;
}

/** Models of OneTrainer that potstill trains. */
const MODELS = ['STABLE_DIFFUSION_15', 'STABLE_DIFFUSION_XL_10_BASE'];
/** Its choices of layers: parts of names, all of which the layers of a recipe's choice have. */
const LAYERS: Readonly<Record<string, string>> = {
  full: 'all',
  'attn-mlp': 'transformers',
  'attn-only': 'attention',
};
/** Sides of buckets there are multiples of 64, as here. */
const BUCKETS = {};
/** A recipe's own limit: each order has text and predictions of its own. */
const MAX_VARIANTS = 64;

/** Makes a recipe of a OneTrainer config. What has no counterpart is noted; what cannot be trained here is an error. */
export async function importOneTrainer({ file, config }: ReadOneTrainer, notes: Notes): Promise<object> {
  requireTrainable(file, config);
  const concepts = await conceptsOf(file, config, notes);
  const distils = config.distillation.enabled && concepts.some(({ type }) => type === 'DISTILLATION');
  if (config.distillation.enabled && !distils) {
    const what =
      'is enabled, but no concept is of the type DISTILLATION: nothing was distilled there, and nothing is here';
    notes.note('value-changed', 'distillation', what);
  }
  const method = distils ? distillation(file, config, notes) : { id: 'denoise' };
  noteTextEncoders(config, notes);
  const name = config.output_model_destination;
  return {
    $schema: 'node_modules/potstill/schema/recipe.schema.json',
    version: 1,
    name: name === undefined ? 'onetrainer' : basename(name, extname(name)),
    student: {
      model: notes.model('student.model', config.base_model_name),
      ...(config.vae.model_name === '' ? {} : { vae: notes.model('student.vae', config.vae.model_name) }),
      train: config.training_method === 'LORA' ? adapter(config, notes) : 'unet',
    },
    ...(distils ? { teachers: [teacher(config, notes)] } : {}),
    data: concepts.map((concept, index) => dataOf(concept, index, { config, distils, notes })),
    cache: { timesteps: timestepsOf(config) },
    method,
    training: importLoop(config, { cached: distils, notes }),
  };
}

function refuse(file: string, what: string, remedy: string): never {
  throw inputError('ERR_IMPORT_VALUE', what, { where: file, remedy });
}

function requireTrainable(
  file: string,
  { training_method: method, model_type: model, peft_type: kind }: OneTrainerConfig,
) {
  if (!MODELS.includes(model)) {
    refuse(file, `model_type: ${model} is no model that potstill trains`, `It trains ${MODELS.join(' and ')}.`);
  }
  if (method !== 'LORA' && method !== 'FINE_TUNE') {
    refuse(file, `training_method: ${method} has no counterpart`, 'It trains UNets (FINE_TUNE) and LoRAs (LORA).');
  }
  if (method === 'LORA' && kind !== 'LORA') {
    refuse(
      file,
      `peft_type: ${kind} is not trained here`,
      'Set it to LORA; files of other kinds can be loaded and merged.',
    );
  }
}

/** The concepts that are enabled: of the config itself, or of the file that it names. */
async function conceptsOf(file: string, config: OneTrainerConfig, notes: Notes): Promise<readonly Concept[]> {
  let concepts = config.concepts;
  if (concepts == null) {
    const named = notes.resolved(config.concept_file_name);
    if (existsSync(named)) {
      const document = parseDocument(named, await readRecipe(named));
      concepts = parse(document, conceptFile.safeParse(document.value));
    }
  }
  const enabled = concepts?.filter((concept) => concept.enabled);
  if (enabled !== undefined && enabled.length > 0) return enabled;
  if (concepts != null) refuse(file, 'no concept is enabled', 'Enable the concepts to train on.');
  const path = notes.fillIn(
    'data[0].images',
    'images',
    `the folder of images (there is no ${config.concept_file_name})`,
  );
  const [standard] = conceptFile.parse([{ path }]);
  return standard === undefined ? [] : [standard];
}

/**
 * The target of the distillation.
 *
 * Its "KL divergence" is the squared difference of predictions divided by the temperature, times the temperature's square:
 * the temperature cancels.
 */
function distillation(file: string, { distillation: told }: OneTrainerConfig, notes: Notes): object {
  const { loss_type: loss, kl_temperature: temperature, target_mode: target, loss_weight: weight } = told;
  if (loss === 'KL_DIVERGENCE') {
    const cancels = temperature === 1 ? '' : `, and its temperature (${temperature}) cancels: (d/T)²·T² = d²`;
    notes.note(
      'loss',
      'training.loss',
      `"KL_DIVERGENCE" of two predictions was their mean squared error${cancels}; it is mse`,
    );
  } else if (temperature !== 1) {
    refuse(
      file,
      `distillation.kl_temperature: ${temperature} means nothing for the loss ${loss}`,
      'Set it to 1, or leave it out.',
    );
  } else if (loss !== 'MSE') {
    notes.note(
      'value-changed',
      'training.loss',
      `${loss} was the loss of distilled pictures alone; the loss of a recipe is one for all`,
    );
  }
  const sum =
    'there the loss of the data was added, which drew guidance towards 1: training.regularise.data does that here';
  notes.note('value-changed', 'method', `only the target of teachers is trained on, weighed ${weight} there; ${sum}`);
  if (target === 'CFG_DISTILL') return { id: 'cfg', guidance: told.cfg_scale };
  if (target === 'STEP_ROLLOUT') {
    const what = 'mixed predictions at several noise levels there; here a rollout is steps along one trajectory';
    notes.note('value-changed', 'method.rolloutSteps', what);
    return { id: 'cfg', guidance: 1, rolloutSteps: told.rollout_steps, rolloutBlend: told.rollout_blend };
  }
  return { id: 'multi-teacher' };
}

function teacher({ distillation: told, model_type: model }: OneTrainerConfig, notes: Notes): object {
  const { parent_model_path: path, parent_model_type: kind } = told;
  if (kind !== undefined && kind !== model) {
    notes.note(
      'value-changed',
      'teachers[0].model',
      `is a ${kind} in the config, and the student a ${model}: they must be of one kind`,
    );
  }
  return {
    id: 'parent',
    model:
      path === ''
        ? notes.fillIn('teachers[0].model', 'teacher', 'the parent model')
        : notes.model('teachers[0].model', path),
  };
}

function adapter(config: OneTrainerConfig, notes: Notes): object {
  const { lora_model_name: file, lora_rank: rank, lora_alpha: alpha, lora_decompose: dora } = config;
  if (config.dropout_probability > 0) {
    notes.note('not-imported', 'dropout_probability', 'LoRAs are trained without dropout');
  }
  if (file !== '') return { lora: notes.path(file) };
  const text = textOf(config, notes);
  return { lora: { rank, alpha, targets: targetsOf(config, notes), ...(dora ? { dora } : {}), ...text } };
}

/** The LoRA on the text encoders: as large as that on the UNet, on all of their layers. */
function textOf(config: OneTrainerConfig, notes: Notes): object {
  const trained = trainedEncoders(config);
  const [first] = trained;
  if (first === undefined) return {};
  const base = config.unet.learning_rate ?? config.learning_rate;
  const [rate = 1, ...others] = trained.map(({ lr }) => ratio(lr ?? config.learning_rate, base));
  if (others.some((other) => other !== rate)) {
    notes.note(
      'value-changed',
      'student.train.lora.text.rate',
      `is ${rate} for both encoders: they had rates of their own`,
    );
  }
  const isProdigy = config.optimizer.optimizer.startsWith('PRODIGY');
  if (isProdigy && rate !== 1) {
    notes.note('value-changed', 'student.train.lora.text.rate', `is 1: ${rate} there, and Prodigy has one step size`);
  }
  const { lora_rank: rank, lora_alpha: alpha, model_type: model } = config;
  const targets = trained.length === 2 || !model.includes('XL') ? 'transformers' : `${first.name}.*`;
  return { text: { rank, alpha, targets, ...(rate === 1 || isProdigy ? {} : { rate }) } };
}

/** As one would write it: of 3e-4 and 1e-4 it is 3. */
function ratio(value: number, by: number): number {
  const DIGITS = 6;
  return Number((value / by).toPrecision(DIGITS));
}

/** The text encoders that are trained; SD1.x has one. */
function trainedEncoders({ model_type: model, text_encoder, text_encoder_2 }: OneTrainerConfig) {
  const encoders = [
    { name: 'text_encoder', ...text_encoder },
    { name: 'text_encoder_2', ...text_encoder_2 },
  ].slice(0, model.includes('XL') ? 2 : 1);
  return encoders.filter(({ train }) => train).map(({ name, learning_rate: lr }) => ({ name, lr }));
}

function targetsOf(config: OneTrainerConfig, notes: Notes): string | readonly string[] {
  const { layer_filter: filter, layer_filter_preset: preset, layer_filter_regex: isRegex } = config;
  const known = LAYERS[preset];
  if (known !== undefined) return known;
  const parts = filter
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  if (isRegex || parts.length === 0) {
    const what = `"${filter}" is a regular expression or nothing; here all layers are chosen, where patterns take "*" alone`;
    notes.note('value-changed', 'student.train.lora.targets', what);
    return 'all';
  }
  return parts.map((part) => `*${part}*`);
}

/** What is trained of text encoders there and not here. */
function noteTextEncoders(config: OneTrainerConfig, notes: Notes): void {
  if (trainedEncoders(config).length === 0) return;
  if (config.training_method !== 'LORA' || config.lora_model_name !== '') {
    notes.note(
      'not-imported',
      'text_encoder.train',
      'text encoders were trained too; here new LoRAs alone are put on them',
    );
    return;
  }
  const until = 'after 30 epochs unless told otherwise; here they are trained to the end';
  notes.note('value-changed', 'student.train.lora.text', `text encoders stopped being trained ${until}`);
}

interface DataContext {
  readonly config: OneTrainerConfig;
  readonly distils: boolean;
  readonly notes: Notes;
}

function dataOf(concept: Concept, index: number, { config, distils, notes }: DataContext): object {
  const { path, image, text, balancing, loss_weight: weight } = concept;
  const at = `data[${index}]`;
  const type = concept.type ?? (concept.validation_concept === true ? 'VALIDATION' : 'STANDARD');
  const isValidation = type === 'VALIDATION';
  const repeats = concept.balancing_strategy === 'SAMPLES' ? 1 : Math.max(1, Math.round(balancing));
  if (concept.balancing_strategy === 'SAMPLES') {
    notes.note(
      'value-changed',
      `${at}.repeats`,
      `${balancing} samples an epoch there; a recipe goes through all of them`,
    );
  } else if (repeats !== balancing) {
    notes.note(
      'value-changed',
      `${at}.repeats`,
      `is ${repeats}: ${balancing} there, and an epoch has every picture here`,
    );
  }
  if (text.prompt_source !== 'sample') {
    const what = `captions were "${text.prompt_source}" (${text.prompt_path ?? 'no file'}): put them beside the pictures, as .txt`;
    notes.note('fill-in', `${at}.captions`, what);
  }
  noteAugmentations(concept, index, notes);
  if (config.masked_training) {
    const masks =
      'masks lay beside the pictures, as NAME-masklabel.png: put them in a folder of their own, as NAME.png';
    notes.note('fill-in', `${at}.masks`, masks);
  }
  return {
    images: path.startsWith('FILL-IN') ? path : notes.path(path),
    ...(isValidation ? { use: 'validation' } : {}),
    ...(isValidation || repeats === 1 ? {} : { repeats }),
    ...sizeOf(config, notes),
    ...(image.enable_random_flip ? { flip: true } : {}),
    ...(text.enable_tag_shuffling ? { shuffle: shuffleOf(concept) } : {}),
    ...(config.masked_training ? { masks: 'FILL-IN/masks' } : {}),
    ...methodOf(type, distils),
    ...(weight === 1 || isValidation ? {} : { lossWeight: weight }),
  };
}

function shuffleOf({ text, text_variations: variants }: Concept): object {
  return {
    // One order is none that is drawn.
    variants: Math.min(MAX_VARIANTS, Math.max(2, variants)),
    keep: text.keep_tags_count,
    separator: text.tag_delimiter,
  };
}

/** A concept whose target is another than the recipe's. */
function methodOf(type: string, distils: boolean): object {
  if (type === 'PRIOR_PREDICTION') return { method: { id: 'prior' } };
  // Of a distillation, the concepts that were trained on as usual.
  return distils && type === 'STANDARD' ? { method: { id: 'denoise' } } : {};
}

function sizeOf(config: OneTrainerConfig, notes: Notes): object {
  const [first = '', ...others] = config.resolution.split(',').map((part) => part.trim());
  const [width = Number.NaN, height = width] = first.split('x').map(Number);
  if (others.length > 0) {
    notes.note('value-changed', 'data[].size', `is ${first}: ${others.join(', ')} were trained at as well`);
  }
  return { size: [width, height], ...(config.aspect_ratio_bucketing ? { aspect: BUCKETS } : {}) };
}

/** Settings of a concept that are on, and change pictures or captions in ways that a recipe has not. */
function noteAugmentations({ image, text }: Concept, index: number, notes: Notes): void {
  for (const [section, settings] of Object.entries({ image, text })) {
    for (const [key, value] of Object.entries(settings)) {
      const isKnown = key === 'enable_random_flip' || key === 'enable_tag_shuffling';
      if (isKnown || value !== true || !/^enable_|_enable$/.test(key)) continue;
      notes.note('not-imported', `concepts[${index}].${section}.${key}`, 'is on there; a recipe has no such thing');
    }
  }
}

function timestepsOf({ min_noising_strength: low, max_noising_strength: high }: OneTrainerConfig): [number, number] {
  const TIMESTEPS = 1000;
  return [Math.floor(low * TIMESTEPS), Math.max(1, Math.ceil(high * TIMESTEPS))];
}
