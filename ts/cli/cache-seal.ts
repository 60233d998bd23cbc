import type { Command } from 'commander';
import type { SealedComponent } from '../cache/index.ts';
import type { Context } from './command.ts';

/** `potstill cache seal PATH` */
export function configureSeal(command: Command, context: Context): void {
  command
    .argument('<path>', "a cache's folder, or s3://bucket/path")
    .description(
      'Joins the parts of a build (cache build --shard): proves that every planned record is there once, and seals what is\n' +
        'complete. Exits with 1 while shards are missing.',
    )
    .action(async (path: string) => {
      const { sealCache } = await import('../cache/index.ts');
      const components = await sealCache(path, { progress: context.progress, signal: context.signal });
      const ok = components.every(isSealed);
      context.result({ ok, dir: path, components }, () => format(path, components));
      if (!ok) context.failCheck();
    });
}

function isSealed({ state }: SealedComponent): boolean {
  return state === 'now' || state === 'before';
}

function format(path: string, components: readonly SealedComponent[]): string {
  const open = components.filter((component) => !isSealed(component)).length;
  const verdict = open === 0 ? 'sealed' : `NOT COMPLETE: ${open} of ${components.length} components`;
  const lines = components.map(({ component, records, shards, ...rest }) => {
    return `  ${component}: ${records} records in ${shards} shards, ${describe(shards, rest)}`;
  });
  const remedy =
    open === 0 ? [] : ['  do: run the parts that are missing, or `potstill cache build RECIPE`, which builds the rest'];
  return [`${path}: ${verdict}`, ...lines, ...remedy].join('\n');
}

/** Missing shards that are named. */
const NAMED = 8;

function describe(shards: number, { state, missing }: Pick<SealedComponent, 'state' | 'missing'>): string {
  switch (state) {
    case 'now':
      return 'every record once: sealed';
    case 'before':
      return 'sealed before';
    case 'waiting':
      return 'all there, but latents or text, which it was made on, are not';
    case 'incomplete': {
      const more = missing.length > NAMED ? ` and ${missing.length - NAMED} more` : '';
      return `${missing.length} of ${shards} MISSING: ${missing.slice(0, NAMED).join(', ')}${more}`;
    }
  }
}
