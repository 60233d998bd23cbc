/**
 * What distilled adapters come to on the demo's models: `tsx bench/adapters.ts`. Trains what is not trained yet by the
 * recipes in configs/demo/recipes/adapters, draws, measures, and writes a result and a picture for each show.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { loadEngine } from '../ts/native/index.ts';
import { writeAtomic } from '../ts/write-atomic.ts';
import { closeness } from './lib/closeness.ts';
import { type Artist, contactSheet, type Drawn, draw } from './lib/draw.ts';
import { options } from './lib/options.ts';
import { publish } from './lib/publish.ts';

const ROOT = join(import.meta.dirname, '..');
const DEMO = join(ROOT, 'configs', 'demo');
const RUNS = join(ROOT, 'runs', 'adapters');
const GUIDANCE = 5;

/** Where prompts come from, and what they are to a student that learned on pictures of nature. */
const PROMPTS = {
  trained: 'nature',
  'held out': 'nature-held-out',
  'of another kind': 'people',
  'of another kind, held out': 'people-held-out',
} as const;
type Group = keyof typeof PROMPTS;
const GROUPS = Object.keys(PROMPTS) as Group[];
/** Of each kind: as many as the smallest has. */
const PER_GROUP = 24;
/** Which prompts of each kind the picture shows. */
const SHOWN = [3, 14];

const student = (name: string): string => join(RUNS, name, 'student.safetensors');
const artist = (model: string, guidance: number, ...files: string[]): Artist => ({
  model,
  adapters: files.map((file) => ({ file, weight: 1 })),
  guidance,
});

interface Show {
  /** What the students learned. */
  readonly goal: Artist;
  /** What they would be without. */
  readonly start: Artist;
  readonly students: Readonly<Record<string, Artist>>;
  /** Command lines that make what the artists need, with what each makes. */
  readonly made: readonly (readonly [file: string, ...words: string[]])[];
  /** What must have been run before them. */
  readonly before: readonly string[];
}

const recipe = (name: string): string => relative(ROOT, join(DEMO, 'recipes', 'adapters', `${name}.json`));
const training = (name: string): [string, ...string[]] => [student(name), 'train', recipe(name)];
const backMerged = join(RUNS, 'cfg-back-merge.safetensors');
const RANK_16 = ['--rank', '16', '--model', 'configs/demo/base', '--out', relative(ROOT, backMerged)];

const [base, sdxl, guided] = [join(DEMO, 'base'), join(DEMO, 'base-sdxl'), join(RUNS, 'guided')];
const SHOWS: Readonly<Record<string, Show>> = {
  cfg: {
    before: [],
    goal: artist(base, GUIDANCE),
    start: artist(base, 1),
    students: {
      cfg: artist(base, 1, student('cfg')),
      'cfg, rank 32 brought to 16': artist(base, 1, backMerged),
      'cfg with prior': artist(base, 1, student('cfg-prior')),
    },
    made: [
      training('cfg'),
      [backMerged, 'lora', 'back-merge', relative(ROOT, student('cfg')), ...RANK_16],
      training('cfg-prior'),
    ],
  },
  sdxl: {
    before: ['python configs/demo/scripts/enlarge_images.py --images configs/demo/images --out runs/demo-images-128'],
    goal: artist(sdxl, GUIDANCE),
    start: artist(sdxl, 1),
    students: { cfg: artist(sdxl, 1, student('cfg-sdxl')) },
    made: [training('cfg-sdxl')],
  },
  delta: {
    before: ['python configs/demo/scripts/make_style.py --images configs/demo/images/nature --out runs/adapters/night'],
    goal: artist(base, GUIDANCE, student('style')),
    start: artist(guided, 1),
    students: {
      'loaded directly': artist(guided, 1, student('style')),
      delta: artist(guided, 1, student('delta')),
    },
    made: [
      training('cfg'),
      training('style'),
      [
        guided,
        'model',
        'convert',
        relative(ROOT, base),
        '--lora',
        relative(ROOT, student('cfg')),
        '--out',
        relative(ROOT, guided),
      ],
      training('delta'),
    ],
  },
};

const { only, steps, seed, note } = options({ only: Object.keys(SHOWS).join(), steps: '20', seed: '11', note: '' });
const wanted = only.split(',').map((name): readonly [string, Show] => {
  const show = SHOWS[name];
  if (show === undefined) throw new Error(`--only takes ${Object.keys(SHOWS).join(', ')}`);
  return [name, show];
});

for (const [file, ...words] of wanted.flatMap(([, { made }]) => made)) {
  if (existsSync(file)) continue;
  execFileSync(process.execPath, ['--import', 'tsx', join(ROOT, 'ts', 'cli', 'main.ts'), ...words], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

async function captions(set: string): Promise<string[]> {
  const lines = (await readFile(join(DEMO, 'images', set, 'captions.jsonl'), 'utf8')).trim().split('\n');
  const apart = lines.length / PER_GROUP;
  return Array.from({ length: PER_GROUP }, (_, index) => JSON.parse(lines[Math.floor(index * apart)] ?? '').caption);
}
const prompts = (await Promise.all(GROUPS.map((group) => captions(PROMPTS[group])))).flat();
const drawing = { seed: Number(seed), steps: Number(steps) };
const subject = { prompts, ...drawing };
const rowsOf = (group: Group, drawn: Drawn): readonly Float32Array[] => {
  const from = GROUPS.indexOf(group) * PER_GROUP;
  return drawn.latents.slice(from, from + PER_GROUP);
};
const engine = await loadEngine();
/** Draws with every artist of a show: figures, and what each drew, in order. */
async function measure({ goal, start, students, before, made }: Show) {
  const [to, from] = [await draw(engine, goal, subject), await draw(engine, start, subject)];
  const drawn = [to, from];
  const figures: Record<string, object> = {};
  for (const [id, one] of Object.entries(students)) {
    const own = await draw(engine, one, subject);
    const of = (group: Group) =>
      closeness({ start: rowsOf(group, from), goal: rowsOf(group, to), model: rowsOf(group, own) });
    const groups = Object.fromEntries(GROUPS.map((group) => [group, of(group)]));
    figures[id] = { forwardsPerImage: own.forwardsPerImage, ...groups };
    drawn.push(own);
  }
  const result = {
    commands: [...before, ...made.map(([, ...words]) => `potstill ${words.join(' ')}`)],
    goal: { guidance: goal.guidance, forwardsPerImage: to.forwardsPerImage },
    start: { guidance: start.guidance, forwardsPerImage: from.forwardsPerImage },
    students: figures,
  };
  return { result, drawn };
}

const columns = GROUPS.flatMap((_, group) => SHOWN.map((at) => group * PER_GROUP + at));
for (const [name, show] of wanted) {
  const { result, drawn } = await measure(show);
  await publish(`adapters-${name}`, {
    command: `tsx bench/adapters.ts --only ${name}`,
    ...(note === '' ? {} : { note }),
    kernels: engine.kernelClass,
    threads: engine.threads,
    evaluation: { sampler: 'euler', ...drawing, prompts: PROMPTS, promptsOfEachKind: PER_GROUP },
    ...result,
  });
  const rows = drawn.map(({ latents }) => columns.map((column) => latents[column] ?? new Float32Array()));
  await writeAtomic(join(ROOT, 'docs', `adapters-${name}.png`), await contactSheet(engine, show.goal.model, rows));
}
