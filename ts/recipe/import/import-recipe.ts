import { inputError } from '../../errors.ts';
import { recipeSchema } from '../schema.ts';
import type { BuilderConfig, TrainingConfig } from './configs.ts';
import { type ImportNote, type ImportOptions, Notes } from './notes.ts';
import { importOneTrainer } from './onetrainer.ts';
import { type ReadConfig, readConfig } from './read-config.ts';

/** A recipe made of configs. */
export interface ImportedRecipe {
  /** As it is to be written: only what the configs say, nothing that is a default. */
  readonly recipe: object;
  readonly notes: readonly ImportNote[];
}

/** Updates, where no config says how many. */
const DEFAULT_STEPS = 10_000;
/** The configs' own defaults. */
const DEFAULTS = { seed: 42, timesteps: [0, 1000], outputDir: './cache/teacher_predictions' } as const;

/**
 * Makes a recipe of the configs of a multi-teacher distillation: one for the training, and one for each teacher's cache.
 * Any of them may be missing; what is then not known is marked to be filled in.
 *
 * @throws PotstillError naming the file and value that cannot be used, or two configs that contradict each other
 */
export async function importRecipe(files: readonly string[], options: ImportOptions = {}): Promise<ImportedRecipe> {
  const configs: ReadConfig[] = [];
  for (const file of files) configs.push(await readConfig(file));
  const notes = new Notes(options);
  const recipe = await recipeOf(configs, notes);
  for (const { file, unknown, abridged } of configs) {
    for (const path of unknown) notes.note('not-imported', path, `${file} has it; a recipe does not`);
    if (abridged) {
      notes.note('buckets', 'data.bucket.resolutions', `ends in "..." in ${file}: the rest is not known`);
    }
  }
  return { recipe: checked(recipe), notes: notes.list };
}

/** One config of OneTrainer, or those of a multi-teacher distillation. */
function recipeOf(configs: readonly ReadConfig[], notes: Notes): Promise<object> | object {
  const foreign = configs.find((config) => config.kind === 'onetrainer');
  if (foreign === undefined) return new Import(configs, notes).recipe();
  const other = configs.find((config) => config !== foreign);
  if (other === undefined) return importOneTrainer(foreign, notes);
  throw inputError(
    'ERR_IMPORT_CONFLICT',
    'a config of OneTrainer is a whole training, and another is named beside it',
    {
      where: `${foreign.file}, ${other.file}`,
      remedy: 'Import them one by one: each makes a recipe of its own.',
    },
  );
}

/** A recipe that potstill itself would refuse is a mistake of this file's, but values come from the configs. */
function checked(recipe: object): object {
  const { success, error } = recipeSchema.safeParse(recipe);
  if (success) return recipe;
  const [issue] = error.issues;
  throw inputError('ERR_IMPORT_VALUE', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'is not usable'}`, {
    where: 'the recipe that would be made',
    remedy: 'Mend the value in the config, and import it again.',
  });
}

type Config<Kind extends ReadConfig['kind']> = Extract<ReadConfig, { kind: Kind }>;

class Import {
  readonly #builders: readonly Config<'builder'>[];
  readonly #training: Config<'training'> | undefined;
  readonly #notes: Notes;

  constructor(configs: readonly ReadConfig[], notes: Notes) {
    this.#builders = configs.filter((config) => config.kind === 'builder');
    const trainings = configs.filter((config) => config.kind === 'training');
    this.#training = trainings[0];
    this.#notes = notes;
    if (trainings.length > 1) {
      throw inputError('ERR_IMPORT_CONFLICT', 'there are two configs of a training', {
        where: `${trainings[0]?.file}, ${trainings[1]?.file}`,
        remedy: 'Import them one by one: each makes a recipe of its own.',
      });
    }
  }

  recipe(): object {
    const training = this.#training?.config;
    const text = this.#textSource();
    const student = training?.student.checkpoint_path ?? text.model;
    this.#noteTextSource(text, student);
    const size = this.#size();
    const images = this.#agreed('data.image_dir', ({ data }) => this.#notes.path(data.image_dir));
    this.#noteUnused();
    const name = training?.run.name ?? [...this.#models().keys()].join('-');
    this.#notes.note('time-ids', 'teachers', TIME_IDS);
    return {
      $schema: 'node_modules/potstill/schema/recipe.schema.json',
      version: 1,
      name,
      seed: this.#agreed('cache.base_seed', ({ cache }) => cache.base_seed) ?? DEFAULTS.seed,
      ...(training?.run.output_root === undefined
        ? {}
        : { output: this.#notes.path(`${training.run.output_root}/${name}`) }),
      student: {
        model: this.#notes.model('student.model', student),
        ...(text.model === student ? {} : { encoders: this.#notes.model('student.encoders', text.model) }),
        train: 'unet',
      },
      teachers: this.#teachers(),
      data: [
        {
          images:
            images === undefined ? this.#notes.fillIn('data[0].images', 'images', 'the folder of images') : images,
          ...(size === undefined ? {} : { size }),
        },
      ],
      cache: this.#cache(),
      method: { id: 'multi-teacher' },
      training: this.#loop(training),
    };
  }

  #teachers(): object[] {
    const models = this.#models();
    const trained = this.#training?.config.teachers;
    const wanted = trained ?? [...models.keys()].map((teacher_id) => ({ teacher_id, weight: 1 }));
    if (trained !== undefined) {
      for (const id of models.keys()) {
        if (trained.some((teacher) => teacher.teacher_id === id)) continue;
        this.#notes.note(
          'not-imported',
          'teacher.teacher_id',
          `${id} has a cache, but the training names no such teacher`,
        );
      }
    }
    return wanted.map(({ teacher_id, weight }, index) => {
      const path = `teachers[${index}]`;
      const id = recipeId(teacher_id);
      if (id !== teacher_id) this.#notes.note('value-changed', `${path}.id`, `"${teacher_id}" is called "${id}" here`);
      const model = models.get(teacher_id);
      return {
        id,
        model:
          model === undefined
            ? this.#notes.fillIn(
                `${path}.model`,
                `model-of-${id}`,
                `the model of ${teacher_id}: the config of its cache says which`,
              )
            : this.#notes.model(`${path}.model`, model),
        weight,
      };
    });
  }

  /** The checkpoint of every teacher that has a cache, by id. */
  #models(): ReadonlyMap<string, string> {
    const found = new Map<string, { readonly file: string; readonly model: string }>();
    for (const { file, config } of this.#builders) {
      const { teacher_id: id, checkpoint_path: model } = config.teacher;
      const other = found.get(id);
      if (other !== undefined && this.#notes.path(other.model) !== this.#notes.path(model)) {
        throw inputError(
          'ERR_IMPORT_CONFLICT',
          `teacher.teacher_id ${JSON.stringify(id)} is of two checkpoints: ${other.model} and ${model}`,
          {
            where: `${other.file}, ${file}`,
            remedy:
              'Give each teacher a teacher_id of its own in the config of its cache, and in that of the training.',
          },
        );
      }
      found.set(id, other ?? { file, model });
    }
    return new Map([...found].map(([id, { model }]) => [id, model]));
  }

  #cache(): object {
    const dirs = this.#cacheDirs();
    const dtype = this.#dtype();
    const timesteps = [
      this.#agreed('cache.min_timestep', ({ cache }) => cache.min_timestep) ?? DEFAULTS.timesteps[0],
      this.#agreed('cache.max_timestep', ({ cache }) => cache.max_timestep) ?? DEFAULTS.timesteps[1],
    ];
    for (const dir of dirs) {
      this.#notes.note(
        'cache',
        'cache.dir',
        `is a new folder; the files in ${dir} stay as they are, and \`potstill cache verify ${dir}\` checks them`,
      );
    }
    this.#notes.note(
      'cache',
      'cache.noise',
      'torch draws it, but with seeds of image, view and draw, and timesteps in strata',
    );
    const [first = DEFAULTS.outputDir] = dirs;
    return { dir: `${this.#notes.path(first)}-shards`, draws: 1, noise: 'torch', timesteps, dtype };
  }

  /** Where the teachers' files lie: in one folder, or each in its own. As first spelt, every folder once. */
  #cacheDirs(): readonly string[] {
    const built = this.#builders.flatMap(({ config: { cache } }) => cache.output_dir ?? []);
    const trained = this.#training?.config.teachers.flatMap(({ cache_dir }) => cache_dir ?? []) ?? [];
    const stated = built.length > 0 ? built : trained;
    const spelt = new Map<string, string>();
    for (const dir of stated) if (!spelt.has(this.#notes.path(dir))) spelt.set(this.#notes.path(dir), dir);
    return spelt.size > 0 ? [...spelt.values()] : [DEFAULTS.outputDir];
  }

  /** Of several the one that loses nothing. */
  #dtype(): 'f16' | 'f32' {
    const stated = [...new Set(this.#builders.flatMap(({ config: { cache } }) => cache.dtype ?? []))];
    const wide = stated.some((dtype) => WIDE.includes(dtype));
    for (const dtype of stated) {
      if (WIDE.includes(dtype) || HALF.includes(dtype)) continue;
      this.#notes.note(
        'value-changed',
        'cache.dtype',
        `"${dtype}" is not among a recipe's: ${wide ? 'f32' : 'f16'} is`,
      );
    }
    if (wide && stated.length > 1) {
      this.#notes.note('value-changed', 'cache.dtype', `is f32 for all teachers: the configs say ${stated.join(', ')}`);
    }
    return wide ? 'f32' : 'f16';
  }

  /** What the builder has and a recipe has not. */
  #noteUnused(): void {
    for (const [path, what, read] of UNUSED) {
      const values = this.#builders.map(({ config }) => read(config)).filter((value) => value !== undefined);
      const stated = [...new Set(values.map((value) => JSON.stringify(value)))];
      if (stated.length > 0) this.#notes.note('not-imported', path, `${stated.join(', ')}: ${what}`);
    }
  }

  #loop(config: TrainingConfig | undefined): object {
    const { batch_size: batch, num_steps: steps, lr, loss_type: loss } = config?.training ?? {};
    const {
      use_gradient_checkpointing: recompute,
      use_ema: useEma,
      ema_decay: decay,
      use_bf16: bf16,
    } = config?.student ?? {};
    if (steps === undefined) {
      this.#notes.note(
        'fill-in',
        'training.steps',
        `no config says how many updates; ${DEFAULT_STEPS} is an example's number`,
      );
    }
    if (loss !== undefined && loss !== 'mse') {
      this.#notes.note('value-changed', 'training.loss', `"${loss}" is not built yet: "mse" is`);
    }
    if (bf16 === true)
      this.#notes.note('not-imported', 'student.use_bf16', 'the device decides in what precision it computes');
    const device = config?.device ?? this.#builders[0]?.config.device;
    if (device !== undefined)
      this.#notes.note('not-imported', 'device', `"${device}": the recipe takes what this machine has`);
    return {
      steps: steps ?? DEFAULT_STEPS,
      ...(batch === undefined ? {} : { batch }),
      ...(lr === undefined ? {} : { optimizer: { id: 'adamw', lr } }),
      ...(recompute === true ? { recompute } : {}),
      ...(useEma === true ? { ema: decay === undefined ? {} : { decay } } : {}),
    };
  }

  /** Buckets are sizes that pictures were sorted into by their shape; a recipe's data have one size. */
  #size(): readonly [number, number] | undefined {
    const stated = this.#agreed('data.size', ({ data }) => data.size);
    const size = typeof stated === 'number' ? ([stated, stated] as const) : stated;
    const buckets = this.#builders.flatMap(({ config: { data } }) =>
      data.bucket?.enabled === true ? data.bucket.resolutions : [],
    );
    const distinct = [...new Set(buckets.map(([width, height]) => `${width}x${height}`))];
    if (distinct.length > 0) {
      const crop = size === undefined ? "the student's own size" : `${size[0]}x${size[1]}`;
      this.#notes.note(
        'buckets',
        'data[0].size',
        `pictures were sorted into ${distinct.join(', ')} (width x height); a recipe crops all of them to ${crop}`,
      );
    }
    return size ?? buckets[0];
  }

  /** Where text and latents came from: `model.id`, else `model.text_encoder_id`, else the teacher itself. */
  #textSource(): TextSource {
    const sources = this.#builders.map(({ file, config }) => ({ file, ...sourceOf(config) }));
    const [first] = sources;
    const other = sources.find(({ model }) => model !== first?.model);
    if (first !== undefined && other !== undefined) {
      this.#notes.note(
        'text-source',
        'student.model',
        `${first.file} takes text and latents from ${first.model} (${first.key}), ${other.file} from ${other.model} (${other.key})`,
      );
    }
    if (first !== undefined) return first;
    const student = this.#training?.config.student;
    if (student?.text_encoder_id) return { model: student.text_encoder_id, key: 'student.text_encoder_id' };
    return { model: student?.checkpoint_path ?? '', key: 'student.checkpoint_path' };
  }

  #noteTextSource({ model, key }: TextSource, student: string): void {
    const path = model === student ? 'student.model' : 'student.encoders';
    this.#notes.note('text-source', path, `text and latents came from ${model} (${key})`);
  }

  /** What all builders say that say it. */
  #agreed<T>(path: string, read: (config: BuilderConfig) => T | undefined): T | undefined {
    let found: { readonly file: string; readonly value: T } | undefined;
    for (const { file, config } of this.#builders) {
      const value = read(config);
      if (value === undefined) continue;
      if (found !== undefined && JSON.stringify(found.value) !== JSON.stringify(value)) {
        throw inputError(
          'ERR_IMPORT_CONFLICT',
          `${path} is ${JSON.stringify(found.value)} and ${JSON.stringify(value)}`,
          {
            where: `${found.file}, ${file}`,
            remedy:
              'Teachers of one student need the same images, seeds and timesteps: import only configs that agree.',
          },
        );
      }
      found ??= { file, value };
    }
    return found?.value;
  }
}

/** How the configs name the dtypes that a recipe has. */
const WIDE = ['fp32', 'float32', 'f32'];
const HALF = ['fp16', 'float16', 'f16', 'half'];

/** Keys of the builder that say nothing to a recipe, and why. */
const UNUSED: readonly (readonly [path: string, what: string, read: (config: BuilderConfig) => unknown])[] = [
  [
    'cache.version',
    'is in the names of the files; a cache in shards tells by its plan what it is',
    ({ cache }) => cache.version,
  ],
  ['cache.skip_existing', 'what is in the cache already is never computed again', ({ cache }) => cache.skip_existing],
  ['data.latent_cache', 'the latents are in the cache itself, and are encoded anew', ({ data }) => data.latent_cache],
  ['teacher.use_bf16', 'the device decides in what precision it computes', ({ teacher }) => teacher.use_bf16],
];

/** What was swapped there, and what follows for caches that were made so. */
const TIME_IDS =
  'of SDXL were given the size conditioning (time_ids) [W, H, 0, 0, W, H] there, width first; potstill and diffusers give [H, W, 0, 0, H, W]. Predictions on pictures that are not square differ: do not mix the two';

interface TextSource {
  readonly model: string;
  /** The key that said so. */
  readonly key: string;
}

function sourceOf({ model, teacher }: BuilderConfig): TextSource {
  if (model.id) return { model: model.id, key: 'model.id' };
  if (model.text_encoder_id) return { model: model.text_encoder_id, key: 'model.text_encoder_id' };
  return { model: teacher.checkpoint_path, key: 'teacher.checkpoint_path' };
}

/** A teacher's id as recipes allow it. */
function recipeId(id: string): string {
  const plain = id
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, '-')
    .replace(/^[-_]+/, '');
  return plain.slice(0, 64) || 'teacher';
}

/** The recipe's text: the notes as comments above it. */
export function printRecipe({ recipe, notes }: ImportedRecipe, files: readonly string[]): string {
  const lines = notes.map(({ code, path, what }) => `// ${code}: ${path}: ${what}`);
  const head = [`// Imported from ${files.join(', ')}.`, ...lines].map((line) => line.replace(/\s*\n\s*/g, ' '));
  return `${head.join('\n')}\n${JSON.stringify(recipe, null, 2)}\n`;
}
