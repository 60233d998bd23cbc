import { z } from 'zod';
import { aspectSizes } from '../data/aspect.ts';
import { DEVICE_NAME, type DeviceName } from '../device.ts';
import { methodOf, methodOptions } from '../methods/index.ts';
import { lossOptions, weightingOptions } from '../methods/loss-options.ts';

/** Timesteps of every Stable Diffusion noise schedule: a recipe's range lies within [0, 1000). */
const TRAIN_TIMESTEPS = 1000;
/** JavaScript's safe integers: seeds survive JSON in every language. */
const MAX_SEED = Number.MAX_SAFE_INTEGER;
/** Larger pictures than any UNet of these architectures was trained for; a typing slip rather than a wish. */
const MAX_SIDE = 4096;
/** Beyond this a factor on a loss is a slip: nothing else would be trained. */
const MAX_LOSS_WEIGHT = 1000;
/** Patterns of a LoRA's layers: a UNet has fewer than a thousand of them. */
const MAX_TARGETS = 1024;
/** Latents are an eighth of the picture. */
const SIDE_MULTIPLE = 8;

const seed = z.int().min(0).max(MAX_SEED);
const positiveInt = z.int().min(1);
const side = z.int().min(SIDE_MULTIPLE).max(MAX_SIDE).multipleOf(SIDE_MULTIPLE);
const size = z.tuple([side, side]).describe('Width and height in pixels, multiples of 8.');
const path = z.string().min(1);
const share = z.number().min(0).max(1);

const lora = z
  .strictObject({
    rank: positiveInt.max(1024).default(16),
    alpha: z.number().positive().optional().describe('Scale of the adapter times its rank; the rank when left out.'),
    targets: z
      .union([z.string().min(1), z.array(z.string().min(1)).min(1).max(MAX_TARGETS)])
      .default('attention')
      .describe(
        'Layers that it sits on: "attention", "transformers" (all linear layers of the transformers, as kohya), "all", ' +
          'patterns of paths such as "up_blocks.1.*", or a list of these.',
      ),
    blocks: z
      .array(
        z.strictObject({
          layers: z.string().min(1).describe('A preset or a pattern, among the targets.'),
          rank: positiveInt.max(1024).optional().describe("The adapter's when left out."),
          alpha: z.number().positive().optional().describe("As large for the rank as the adapter's when left out."),
        }),
      )
      .max(MAX_TARGETS)
      .default([])
      .describe('Layers with a rank and an alpha of their own; the last entry that chooses a layer counts.'),
    rslora: z.boolean().default(false).describe('Scales by alpha / √rank in place of alpha / rank.'),
    dora: z.boolean().default(false).describe("Trains the lengths of the weights' rows too (DoRA)."),
    text: z
      .strictObject({
        rank: positiveInt.max(1024).default(8),
        alpha: z.number().positive().optional().describe('The rank when left out.'),
        targets: z
          .union([z.string().min(1), z.array(z.string().min(1)).min(1).max(MAX_TARGETS)])
          .default('transformers')
          .describe(
            'Layers of the text encoders: "attention", "transformers" (attention and perceptrons, as kohya), or patterns such ' +
              'as "text_encoder_2.*", for one of SDXL\'s two.',
          ),
        rate: z.number().min(0).max(1000).default(1).describe("Factor on the optimizer's learning rate."),
      })
      .optional()
      .describe('Trains the text encoders too: captions are then encoded in every step.'),
  })
  .describe('A low-rank adapter; the model itself stays frozen.');

const student = z
  .strictObject({
    model: path.describe('Folder of the model that the student starts from.'),
    encoders: path
      .optional()
      .describe(
        "Model whose text encoders and VAE make text and latents, for all teachers alike; the student's own when left out.",
      ),
    vae: path
      .optional()
      .describe(
        'A VAE that makes latents and pictures in place of that of the encoders or the student: a file, or a folder that has one.',
      ),
    train: z
      .union([
        z.literal('unet'),
        z.strictObject({ lora: z.union([path, lora]) }),
        z.strictObject({
          loras: z
            .record(
              z.string().regex(/^[a-z][a-z0-9_-]{0,63}$/, 'must be small letters, digits, - and _'),
              z.union([path, lora]),
            )
            .refine((loras) => Object.keys(loras).length > 0, 'names no LoRA'),
        }),
      ])
      .default('unet')
      .describe(
        '"unet": every weight of it; or "lora": a new one, or the file of one to go on with; or "loras": several by name, ' +
          'on layers of their own.',
      ),
  })
  .describe('What is trained.');

const teacher = z.strictObject({
  id: z
    .string()
    .regex(/^[a-z0-9][a-z0-9_-]{0,63}$/, 'must be small letters, digits, - and _, at most 64 of them')
    .describe('Name of the teacher in the cache, the metrics and messages.'),
  model: path.describe("Folder of the teacher's model."),
  weight: z
    .number()
    .min(0)
    .default(1)
    .describe("Share of the teacher in the target; the teachers' weights are normalised."),
  lora: z
    .array(z.strictObject({ file: path, scale: z.number().default(1) }))
    .default([])
    .describe('LoRA files laid over the model, in order.'),
  storage: z
    .enum(['f32', 'bf16', 'int8', 'fp8', 'nf4'])
    .default('f32')
    .describe(
      'What the matrices are held in: bf16 is multiplied as such, codes of linear layers are decoded at every use.',
    ),
});

const data = z.strictObject({
  images: path.describe('Folder with images and their captions.'),
  use: z
    .enum(['train', 'validation'])
    .default('train')
    .describe(
      '"validation": these images are never trained on, wherever else they are named, and are what validation measures.',
    ),
  captions: z
    .enum(['txt', 'jsonl'])
    .default('txt')
    .describe(
      '"txt": image.txt beside image.png; "jsonl": captions.jsonl in the folder, a line of {"file", "caption"} per image.',
    ),
  repeats: positiveInt.max(10_000).default(1).describe('How often an epoch goes through these images.'),
  captionDropout: share
    .default(0)
    .describe('Probability of training an image with the empty caption instead of its own.'),
  size: size.optional().describe("Images are resized and cropped to this; the student model's own size when left out."),
  aspect: z
    .strictObject({
      divisor: side.default(64).describe('Sides are multiples of it.'),
      min: side.default(256).describe('Shortest side.'),
      max: side.default(2048).describe('Longest side.'),
    })
    .optional()
    .describe('Crops each image to the nearest of several shapes, all of about the area of `size`.'),
  flip: z.boolean().default(false).describe('Adds a mirrored view of every image.'),
  shuffle: z
    .strictObject({
      variants: z
        .int()
        .min(2)
        .max(64)
        .default(4)
        .describe('Orders per caption; each has text and predictions of its own.'),
      keep: z.int().min(0).max(1000).default(0).describe('Tags at the beginning that stay where they are.'),
      separator: z.string().min(1).max(8).default(',').describe('What stands between tags.'),
    })
    .optional()
    .describe(
      'Trains captions of tags in several orders, of which each step draws one. Held-out captions have the first.',
    ),
  masks: path
    .optional()
    .describe("Folder with a mask for every image, under the image's name ending in .png: white is learned."),
  method: methodOptions
    .optional()
    .describe('How these images are trained on, where it is not as the others: {"id": "prior"}, for example.'),
  lossWeight: z
    .number()
    .min(0)
    .max(MAX_LOSS_WEIGHT)
    .default(1)
    .describe("Factor on these images' loss: the weight of prior preservation, for example."),
});

const cache = z
  .strictObject({
    dir: path
      .default('cache')
      .describe('Folder of the cache, or s3://bucket/path; what fits in it already is not computed again.'),
    layout: z
      .enum(['shards', 'files'])
      .default('shards')
      .describe(
        '"files": dir holds a folder of files for every teacher, one for each image; training brings them into shards in dir/shards.',
      ),
    draws: positiveInt.max(1024).default(4).describe('Draws of (timestep, noise) per view of an image.'),
    noise: z
      .enum(['philox', 'torch', 'stored'])
      .default('philox')
      .describe('Generator of the noise; "stored": noise, draws and timesteps as `cache import` brought them in.'),
    timesteps: z
      .tuple([
        z
          .int()
          .min(0)
          .max(TRAIN_TIMESTEPS - 1),
        z.int().min(1).max(TRAIN_TIMESTEPS),
      ])
      .refine(([low, high]) => low < high, 'must be [from, to] with from below to')
      .default([0, TRAIN_TIMESTEPS])
      .describe('Range of timesteps, the end excluded.'),
    dtype: z.enum(['f16', 'f32']).default('f16').describe('Numbers on disk.'),
    seed: seed
      .optional()
      .describe("Of the cached noise and timesteps; the recipe's when left out. With it, the recipe's may change."),
  })
  .describe('What is computed once, before training.');

const weightDecay = z
  .number()
  .min(0)
  .default(0)
  .describe('Decoupled decay: weights shrink by lr · weightDecay a step.');
const betas = z.tuple([share.lt(1), share.lt(1)]);
const lr = z.number().positive().max(1).describe('Learning rate.');
const rates = z
  .array(
    z.strictObject({
      layers: z.string().min(1).describe('A preset or a pattern of paths, as in student.train.lora.targets.'),
      factor: z.number().min(0).max(1000).describe('Factor on the learning rate; 0 keeps them as they are.'),
    }),
  )
  .max(MAX_TARGETS)
  .default([])
  .describe('Learning rates by layers; the last entry that chooses a layer counts, others have factor 1.');

const optimizer = z
  .discriminatedUnion('id', [
    z.strictObject({
      id: z.literal('adamw').optional().default('adamw'),
      lr: lr.default(1e-4),
      betas: betas.default([0.9, 0.999]),
      eps: z.number().positive().default(1e-8),
      weightDecay: weightDecay.default(0.01),
      rates,
    }),
    z.strictObject({
      id: z.literal('lion'),
      lr: lr.default(1e-5),
      betas: betas.default([0.9, 0.99]),
      weightDecay,
      rates,
    }),
    z.strictObject({
      id: z.literal('prodigy'),
      lr: lr.default(1).describe('Factor on the learning rate that it finds; leave it at 1.'),
      betas: betas.default([0.9, 0.999]),
      eps: z.number().positive().default(1e-8),
      weightDecay,
      d0: z.number().positive().max(1).default(1e-6).describe('First estimate of the distance to go.'),
      dCoef: z.number().positive().max(100).default(1).describe('Factor on the estimates: what to tune it by.'),
      growthRate: z
        .number()
        .min(1)
        .nullable()
        .default(null)
        .describe('Largest factor from one estimate to the next; null for none.'),
      biasCorrection: z.boolean().default(false),
      safeguardWarmup: z.boolean().default(false).describe('For schedules with a warm-up.'),
      rates,
    }),
    z.strictObject({
      id: z.literal('adafactor'),
      lr: lr.default(1e-4).describe('Learning rate; unused with relativeStep.'),
      eps: z.tuple([z.number().positive(), z.number().positive()]).default([1e-30, 1e-3]),
      clipThreshold: z.number().positive().default(1).describe('Largest root mean square of an update.'),
      decayRate: z.number().min(-1).lt(0).default(-0.8),
      weightDecay,
      scaleParameter: z.boolean().default(false).describe("Multiplies by a parameter's root mean square."),
      relativeStep: z.boolean().default(false).describe('min(0.01, 1/√step) in the place of the learning rate.'),
      rates,
    }),
  ])
  .describe('AdamW as torch has it, Lion as lion-pytorch, Prodigy as prodigyopt, Adafactor as transformers.');

const factor = z.number().min(0).max(MAX_LOSS_WEIGHT).default(0);

const shift = z
  .number()
  .positive()
  .max(100)
  .default(1)
  .describe('Above 1 draws later timesteps more often: u becomes shift·u/(1 + (shift − 1)·u).');
const timesteps = z
  .discriminatedUnion('id', [
    z.strictObject({ id: z.literal('uniform'), shift }),
    z.strictObject({
      id: z.literal('logit-normal'),
      mean: z.number().min(-10).max(10).default(0),
      std: z.number().positive().max(10).default(1),
      shift,
    }),
  ])
  .describe('How fresh timesteps are drawn from the range cache.timesteps.');

const warmup = z.int().min(0).default(0).describe('Updates over which the learning rate rises from 0.');
const schedule = z
  .discriminatedUnion('id', [
    z.strictObject({ id: z.literal('constant'), warmup }),
    z.strictObject({ id: z.literal('linear'), warmup }),
    z.strictObject({ id: z.literal('cosine'), warmup, cycles: z.number().positive().default(0.5) }),
  ])
  .describe('Course of the learning rate.');

const training = z
  .strictObject({
    steps: positiveInt.max(100_000_000).describe('Updates of the whole run.'),
    batch: positiveInt.max(65_536).default(1).describe('Rows per forward.'),
    accumulation: positiveInt
      .max(65_536)
      .default(1)
      .describe('Forwards per update: the batch that counts is their product.'),
    optimizer: optimizer.prefault({}),
    schedule: schedule.prefault({ id: 'constant' }),
    clip: z.number().positive().nullable().default(1).describe('Largest norm of the gradient; null does not clip.'),
    recompute: z
      .boolean()
      .default(false)
      .describe('Computes activations again in the backward pass: less memory, more time, the same gradients.'),
    ema: z
      .strictObject({ decay: share.lt(1).default(0.9999) })
      .optional()
      .describe('Keeps an exponential moving average of the weights; samples and the result are taken from it.'),
    loss: lossOptions.default({ id: 'mse' }).describe('Distance of a prediction from its target.'),
    weighting: weightingOptions
      .default({ id: 'none' })
      .describe(
        'How much the loss of a row counts, by its timestep: after the mean over the row, before that over rows.',
      ),
    noiseOffset: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe('Adds this times one random number per channel to fresh noise.'),
    timesteps: timesteps.prefault({ id: 'uniform' }),
    masks: z
      .strictObject({
        unmasked: share.default(0.1).describe('How much black counts.'),
        prior: factor.describe('Weight of staying what the student was where a mask is black.'),
        normalise: z
          .boolean()
          .default(false)
          .describe('Divides by the mean of the mask: a small one counts as much as a large one.'),
      })
      .prefault({})
      .describe('For data with masks.'),
    regularise: z
      .strictObject({
        prior: factor.describe('Weight of staying what the student was: its adapter off, at the same point.'),
        data: factor.describe('Weight of ordinary training on the data, at the same point.'),
      })
      .prefault({})
      .describe('Added to the loss of every batch. Both draw the guidance of method "cfg" towards 1.'),
    checkpoint: z
      .strictObject({
        every: positiveInt.default(100).describe('Updates between checkpoints; one is written at the end in any case.'),
        keep: positiveInt.default(2).describe('How many of the newest are kept.'),
      })
      .prefault({}),
    validation: z
      .strictObject({
        every: positiveInt.default(100),
        fraction: z
          .number()
          .positive()
          .max(0.5)
          .optional()
          .describe(
            'Share of the images that is held out of training; 0.05 when left out. For data without "use": "validation".',
          ),
        samples: positiveInt.default(32).describe('At most so many held-out samples are measured.'),
        draws: positiveInt.default(4).describe('Draws per sample: always the same ones.'),
      })
      .optional()
      .describe('Measures the loss on images that are not trained on.'),
    save: z
      .strictObject({ dtype: z.enum(['f16', 'f32']).default('f16') })
      .prefault({})
      .describe('How the finished student is written.'),
  })
  .describe('The loop.');

const sampling = z
  .strictObject({
    every: positiveInt.default(100).describe('Updates between samples; one set is drawn at the end in any case.'),
    prompts: z.array(z.string()).min(1).max(1024),
    negative: z.string().default(''),
    promptSyntax: z
      .enum(['weighted', 'plain'])
      .default('weighted')
      .describe('weighted: of any length, with (words:1.2); plain: the first 77 tokens, as in training.'),
    sampler: z.enum(['ddpm', 'ddim', 'euler', 'euler-a', 'dpmpp-2m', 'lcm', 'tcd', 'flow-euler']).default('euler'),
    spacing: z
      .enum(['leading', 'trailing', 'linspace'])
      .optional()
      .describe("How the timesteps are spread; the sampler's own way when left out."),
    karras: z.boolean().optional().describe('Noise levels of Karras et al. (euler, dpmpp-2m).'),
    eta: z.number().min(0).max(1).optional().describe('Share of fresh noise (ddim, tcd).'),
    steps: positiveInt.max(TRAIN_TIMESTEPS).default(20),
    guidance: z.number().min(0).max(100).default(1).describe('1 takes one forward per step, anything else two.'),
    guidanceRescale: z.number().min(0).max(1).optional().describe('Brings guided contrast back to the unguided.'),
    unconditional: z
      .enum(['encode', 'zeros'])
      .default('encode')
      .describe('What guidance leads away from without a negative prompt: "" encoded, or zeros.'),
    clipSkip: z.number().int().min(0).max(32).default(0).describe('Layers of the text encoder to leave out.'),
    seeds: z.array(seed).min(1).max(1024).default([1]),
    size: size.optional(),
  })
  .describe('Pictures drawn during training.');

/** A recipe as it is written: unknown keys are errors, paths are relative to its file. */
export const recipeSchema = z
  .strictObject({
    $schema: z.string().optional().describe('For editors: where the JSON Schema of recipes lies.'),
    version: z.literal(1),
    name: z.string().min(1).max(200),
    device: z
      .string()
      .regex(DEVICE_NAME, 'is no device: auto, cpu, cuda, or cuda:1 for the second')
      .transform((name) => name as DeviceName)
      .default('auto')
      .describe('Where to compute: cuda is the first NVIDIA device, auto that one where it works, else the CPU.'),
    seed: seed.default(42).describe('Of everything that is drawn: noise, timesteps, order, dropout.'),
    output: path.optional().describe('Folder of the run; runs/<name> beside the recipe when left out.'),
    student,
    teachers: z.array(teacher).max(64).default([]),
    data: z.array(data).min(1).max(1024),
    cache: cache.prefault({}),
    method: methodOptions,
    training,
    sampling: sampling.optional(),
  })
  .check((context) => {
    const recipe = context.value;
    const ids = new Set<string>();
    for (const [index, { id }] of recipe.teachers.entries()) {
      if (ids.has(id)) {
        context.issues.push({
          code: 'custom',
          input: id,
          path: ['teachers', index, 'id'],
          message: `"${id}" is the id of another teacher already`,
        });
      }
      ids.add(id);
    }
    for (const { path: at, value, message } of conflictsOf(recipe)) {
      context.issues.push({ code: 'custom', input: value, path: at, message });
    }
  });

/** A validated recipe with every default filled in. */
export type Recipe = z.output<typeof recipeSchema>;

/** Share of the images that is held out where a recipe validates and says neither which nor how many. */
const HELD_OUT_SHARE = 0.05;

/** Fills in the default that depends on the rest of the recipe: the share held out, where no data is held out as a whole. */
export function withHeldOutShare(recipe: Recipe): Recipe {
  const { validation } = recipe.training;
  if (validation === undefined || recipe.data.some(({ use }) => use === 'validation')) return recipe;
  const fraction = validation.fraction ?? HELD_OUT_SHARE;
  return { ...recipe, training: { ...recipe.training, validation: { ...validation, fraction } } };
}

interface Conflict {
  readonly path: (string | number)[];
  readonly value: unknown;
  readonly message: string;
}

function* conflictsOf(recipe: Recipe): Generator<Conflict> {
  yield* methodConflicts(recipe);
  yield* validationConflicts(recipe);
  yield* storageConflicts(recipe);
  for (const [index, { aspect, size: [width, height] = [] }] of recipe.data.entries()) {
    if (aspect === undefined || width === undefined || height === undefined) continue;
    if (aspectSizes({ width, height }, aspect).length > 0) continue;
    const message = `leaves no size of about ${width}x${height}: lower min or divisor, or raise max`;
    yield { path: ['data', index, 'aspect'], value: aspect, message };
  }
  yield* textConflicts(recipe);
  const { optimizer } = recipe.training;
  const place = optimizer.rates.findIndex(({ factor: by }) => by !== 0 && by !== 1);
  if (optimizer.id === 'prodigy' && place >= 0) {
    yield {
      path: ['training', 'optimizer', 'rates', place, 'factor'],
      value: optimizer.rates[place]?.factor,
      message: 'must be 0 or 1: Prodigy finds one step size for all parameters',
    };
  }
}

/** What of text encoders cannot be trained so. */
function* textConflicts({ student: { train }, training: { optimizer } }: Recipe): Generator<Conflict> {
  const own = train === 'unet' ? [] : Object.entries('lora' in train ? { '': train.lora } : train.loras);
  const parts = own.flatMap(([name, lora]) => {
    const text = typeof lora === 'string' ? undefined : lora.text;
    const at = name === '' ? ['student', 'train', 'lora', 'text'] : ['student', 'train', 'loras', name, 'text'];
    return text === undefined ? [] : [{ path: [...at, 'rate'], value: text.rate }];
  });
  for (const { path, value } of parts) {
    if (value !== parts[0]?.value) {
      yield {
        path,
        value,
        message: `must be that of the other LoRAs (${parts[0]?.value}): text encoders have one rate`,
      };
    } else if (optimizer.id === 'prodigy' && value !== 0 && value !== 1) {
      yield { path, value, message: 'must be 0 or 1: Prodigy finds one step size for all parameters' };
    }
  }
}

/** Adapters are laid into weights, and codes are not changed. */
function* storageConflicts({ teachers }: Recipe): Generator<Conflict> {
  for (const [index, { storage, lora: adapters }] of teachers.entries()) {
    if (adapters.length === 0 || storage === 'f32' || storage === 'bf16') continue;
    yield {
      path: ['teachers', index, 'storage'],
      value: storage,
      message: `adapters cannot be laid into codes: make a model of both (\`potstill model convert --lora\`), or hold it in "bf16"`,
    };
  }
}

/** What the methods of a recipe lack. */
function* methodConflicts(recipe: Recipe): Generator<Conflict> {
  const { method, data: sets, teachers, training } = recipe;
  const { validation } = training;
  for (const options of [method, ...sets.flatMap((set) => set.method ?? [])]) {
    const { fields, bases } = methodOf(options).needs(options);
    if (fields.length > 0 && teachers.every(({ weight }) => weight === 0)) {
      yield {
        path: ['teachers'],
        value: teachers,
        message: `method "${options.id}" needs at least one teacher with a weight above 0`,
      };
      return;
    }
    const plain = teachers.findIndex(({ lora: adapters }) => adapters.length === 0);
    if (bases === true && plain >= 0) {
      yield {
        path: ['teachers', plain, 'lora'],
        value: [],
        message: `is empty, and what a teacher's adapters change is what method "${options.id}" transfers: name them`,
      };
      return;
    }
  }
  yield* drawConflicts(recipe);
  yield* phaseConflicts(recipe);
  const isDelta = [method, ...sets.map((set) => set.method)].some((options) => options?.id === 'delta');
  if (isDelta && validation !== undefined) {
    yield {
      path: ['training', 'validation'],
      value: validation,
      message:
        'means nothing for method "delta", whose target moves with what the student was: draw `sampling` instead',
    };
  }
}

/** The recipe's own method says in what phases a step goes on and whose weights each changes: for all rows alike. */
function* phaseConflicts({ method, data: sets }: Recipe): Generator<Conflict> {
  const groupsOf = (options: typeof method): string => JSON.stringify(methodOf(options).groups);
  for (const [index, { method: options }] of sets.entries()) {
    if (options === undefined || groupsOf(options) === groupsOf(method)) continue;
    yield {
      path: ['data', index, 'method'],
      value: options,
      message: `trains in other phases than method "${method.id}", and both cannot share a run: train one after the other`,
    };
  }
}

/** Teachers have predicted at the cache's draws: others would be none of theirs. */
function* drawConflicts({ method, data: sets, training }: Recipe): Generator<Conflict> {
  const reads = [method, ...sets.flatMap((set) => set.method ?? [])].find(
    (options) => methodOf(options).needs(options).fields.length > 0,
  );
  if (reads === undefined) return;
  const { noiseOffset, timesteps: drawn } = training;
  const message = `is for fresh draws, and method "${reads.id}" has those of its cache: see cache.timesteps and cache.draws`;
  if (noiseOffset !== 0) yield { path: ['training', 'noiseOffset'], value: noiseOffset, message };
  if (drawn.id !== 'uniform' || drawn.shift !== 1) yield { path: ['training', 'timesteps'], value: drawn, message };
}

/** What a recipe says of held-out data that contradicts itself. */
function* validationConflicts({ data: sets, training: { validation } }: Recipe): Generator<Conflict> {
  const heldOut = sets.findIndex(({ use }) => use === 'validation');
  if (heldOut < 0) return;
  if (validation?.fraction !== undefined) {
    yield {
      path: ['training', 'validation', 'fraction'],
      value: validation.fraction,
      message: `data[${heldOut}] is held out as a whole, so no share of the other images is: state one of the two`,
    };
  }
  if (sets.every(({ use }) => use === 'validation')) {
    yield { path: ['data'], value: sets, message: 'every entry is for validation: there is nothing to train on' };
  }
  for (const [index, { use, repeats, captionDropout, lossWeight }] of sets.entries()) {
    if (use !== 'validation') continue;
    const message = 'is for training, and this entry is held out of it: leave it out';
    if (repeats !== 1) yield { path: ['data', index, 'repeats'], value: repeats, message };
    if (captionDropout !== 0) yield { path: ['data', index, 'captionDropout'], value: captionDropout, message };
    if (lossWeight !== 1) yield { path: ['data', index, 'lossWeight'], value: lossWeight, message };
  }
}
