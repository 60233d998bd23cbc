import { z } from 'zod';
import { methodOf, methodOptions } from '../methods/index.ts';

/** Timesteps of every Stable Diffusion noise schedule: a recipe's range lies within [0, 1000). */
const TRAIN_TIMESTEPS = 1000;
/** JavaScript's safe integers: seeds survive JSON in every language. */
const MAX_SEED = Number.MAX_SAFE_INTEGER;
/** Larger pictures than any UNet of these architectures was trained for; a typing slip rather than a wish. */
const MAX_SIDE = 4096;
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
  })
  .describe('A low-rank adapter; the model itself stays frozen.');

const student = z
  .strictObject({
    model: path.describe('Folder of the model that the student starts from.'),
    train: z
      .union([z.literal('unet'), z.strictObject({ lora })])
      .default('unet')
      .describe('"unet": every weight of it; or a LoRA.'),
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
    .enum(['f32', 'bf16', 'f16', 'int8', 'fp8', 'nf4'])
    .default('f32')
    .describe('How the weights are held in memory.'),
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
  flip: z.boolean().default(false).describe('Adds a mirrored view of every image.'),
});

const cache = z
  .strictObject({
    dir: path.default('cache').describe('Folder of the cache; what fits in it already is not computed again.'),
    layout: z.enum(['shards', 'files']).default('shards'),
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
  })
  .describe('What is computed once, before training.');

const optimizer = z
  .strictObject({
    id: z.literal('adamw').default('adamw'),
    lr: z.number().positive().max(1).default(1e-4).describe('Learning rate.'),
    betas: z.tuple([share.lt(1), share.lt(1)]).default([0.9, 0.999]),
    eps: z.number().positive().default(1e-8),
    weightDecay: z.number().min(0).default(0.01),
  })
  .describe("AdamW with torch's semantics.");

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
    loss: z.strictObject({ id: z.literal('mse') }).default({ id: 'mse' }),
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
    device: z.enum(['auto', 'cpu', 'cuda']).default('auto'),
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
    if (readsTeachers(recipe.method) && recipe.teachers.every(({ weight }) => weight === 0)) {
      context.issues.push({
        code: 'custom',
        input: recipe.teachers,
        path: ['teachers'],
        message: `method "${recipe.method.id}" needs at least one teacher with a weight above 0`,
      });
    }
    for (const { path: at, value, message } of validationConflicts(recipe)) {
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
  for (const [index, { use, repeats, captionDropout }] of sets.entries()) {
    if (use !== 'validation') continue;
    const message = 'is for training, and this entry is held out of it: leave it out';
    if (repeats !== 1) yield { path: ['data', index, 'repeats'], value: repeats, message };
    if (captionDropout !== 0) yield { path: ['data', index, 'captionDropout'], value: captionDropout, message };
  }
}

function readsTeachers(options: Recipe['method']): boolean {
  return methodOf(options).needs(options).fields.length > 0;
}
