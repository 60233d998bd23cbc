import type { Command } from 'commander';
import type { CacheGarbageFound } from '../cache/index.ts';
import type { Context } from './command.ts';
import { formatBytes } from './format.ts';
import { collect } from './parse.ts';

interface GcOptions {
  readonly remove?: boolean;
  readonly recipe: readonly string[];
}

/** `potstill cache gc PATH` */
export function configureGc(command: Command, context: Context): void {
  command
    .argument('<path>', "a cache's folder")
    .description(
      'Finds what nothing in a cache refers to: what killed builds left half written, shards beyond a plan or without one.\n' +
        'Removes it only with --remove. Files with other names than potstill gives are never touched.',
    )
    .option('--remove', 'remove what is found')
    .option(
      '--recipe <file>',
      'teachers that none of the recipes given reads are found too; may be repeated',
      collect,
      [],
    )
    .action(async (path: string, { remove = false, recipe: files }: GcOptions) => {
      const [{ loadRecipe }, { collectGarbage }] = await Promise.all([
        import('../recipe/index.ts'),
        import('../cache/index.ts'),
      ]);
      const loaded = await Promise.all(files.map((file) => loadRecipe(file, { set: [] })));
      const found = await collectGarbage(path, { remove, recipes: loaded.map(({ recipe }) => recipe) });
      const bytes = found.garbage.reduce((sum, garbage) => sum + garbage.bytes, 0);
      context.result({ ok: true, dir: path, removed: remove, bytes, ...found }, () =>
        format(path, found, { remove, bytes }),
      );
    });
}

/** Why a file is garbage. */
const REASONS: Readonly<Record<CacheGarbageFound['garbage'][number]['kind'], string>> = {
  unfinished: 'a killed build or export left it half written',
  lock: 'the lock of a build that was killed',
  'beyond-plan': 'a shard beyond the plan',
  unusable: 'cut short or of another plan: a build would write it anew',
  unplanned: 'there is no plan that it belongs to',
  teacher: 'of a teacher that none of the recipes reads',
};

/** Files that are named one by one; --json has all. */
const SHOWN = 20;

function format(
  path: string,
  { garbage, busy, unjudged }: CacheGarbageFound,
  { remove, bytes }: { readonly remove: boolean; readonly bytes: number },
): string {
  const files = `${garbage.length} ${garbage.length === 1 ? 'file' : 'files'}, ${formatBytes(bytes)}`;
  const head = garbage.length === 0 ? 'nothing to remove' : remove ? `removed ${files}` : `${files} to remove`;
  const more = garbage.length > SHOWN ? [`  and ${garbage.length - SHOWN} more; --json lists all`] : [];
  return [
    `${path}: ${head}`,
    ...garbage
      .slice(0, SHOWN)
      .map(({ path: file, bytes: size, kind }) => `  ${file}  ${formatBytes(size)}  ${REASONS[kind]}`),
    ...more,
    ...busy.map((folder) => `  ${folder}: passed over, for a build is at work there`),
    ...unjudged.map(
      (folder) => `  ${folder}: its shards were not judged, for its plan cannot be used; see cache verify`,
    ),
    ...(remove || garbage.length === 0 ? [] : ['  do: run it again with --remove']),
  ].join('\n');
}
