import type { CommandModule } from './command.ts';

/** A command as `potstill --help` shows it; its file is imported only when it is called. */
export interface RegisteredCommand {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<CommandModule>;
}

/** The commands that are built, in the order of the help text. */
export const COMMANDS: readonly RegisteredCommand[] = [
  { name: 'demo', summary: 'the whole pipeline on small models and real pictures', load: () => import('./demo.ts') },
  {
    name: 'cache',
    summary: 'build, seal, verify, list, export and import the caches that training reads',
    load: () => import('./cache.ts'),
  },
  { name: 'train', summary: 'train a student by a recipe', load: () => import('./train.ts') },
  { name: 'sample', summary: 'draw pictures with a model', load: () => import('./sample.ts') },
  { name: 'report', summary: 'a self-contained HTML page of a run', load: () => import('./report.ts') },
  { name: 'probe', summary: 'run one component on given tensors', load: () => import('./probe.ts') },
  {
    name: 'bench',
    summary: 'time this machine: full-size models, a training step, verification, noise',
    load: () => import('./bench.ts'),
  },
  {
    name: 'model',
    summary: 'look at, convert, quantize, pull and push checkpoints',
    load: () => import('./model.ts'),
  },
  {
    name: 'lora',
    summary: 'look at, convert, scale, merge, resize and extract adapters',
    load: () => import('./lora.ts'),
  },
  { name: 'recipe', summary: 'check, print, describe or import a recipe', load: () => import('./recipe.ts') },
  {
    name: 'doctor',
    summary: 'versions, processor, memory, native addon and WASM module of this machine',
    load: () => import('./doctor.ts'),
  },
];

/**
 * Commands of the design that are not built yet. They exit with code 2 and say so by name. A command with
 * subcommands of which only some are built stands here with the missing ones (`recipe migrate`).
 */
export const NOT_BUILT: readonly string[] = ['init', 'recipe migrate', 'watch', 'bench methods'];
