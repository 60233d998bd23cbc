import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Program } from './peer.ts';

const SIDES = join(import.meta.dirname, '..', 'sides');

/** potstill's program of a benchmark. */
export function potstill(name: string, words: readonly string[]): Program {
  return side(`potstill_${name}`, words);
}

/** A program of a benchmark that is neither potstill's nor torch's. */
export function side(name: string, words: readonly string[]): Program {
  return { command: process.execPath, words: ['--import', 'tsx', join(SIDES, `${name}.ts`), ...words] };
}

/** torch's program of a benchmark; none without a Python. */
export function torch(python: string | undefined, name: string, words: readonly string[]): Program | undefined {
  return python === undefined ? undefined : { command: python, words: [join(SIDES, `torch_${name}.py`), ...words] };
}

/** The command line's options: `--python PATH`, and numbers and names with their defaults. */
export function options<Names extends string>(
  defaults: Readonly<Record<Names, string>>,
): Readonly<Record<Names, string>> & { readonly python: string | undefined } {
  const known = Object.entries<string>(defaults).map(([name, value]) => [name, { type: 'string', default: value }]);
  const { values } = parseArgs({ options: { python: { type: 'string' }, ...Object.fromEntries(known) } });
  return values as Readonly<Record<Names, string>> & { readonly python: string | undefined };
}
