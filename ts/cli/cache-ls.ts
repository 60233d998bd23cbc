import type { Command } from 'commander';
import type { ComponentSummary, FilesSummary } from '../cache/index.ts';
import type { Context } from './command.ts';
import { formatBytes } from './format.ts';

/** `potstill cache ls PATH` */
export function configureLs(command: Command, context: Context): void {
  command
    .argument('<path>', "a cache's folder, or s3://bucket/path")
    .description('Lists what is in a cache. Nothing is checked: that is what verify does.')
    .action(async (path: string) => {
      const { surveyCache } = await import('../cache/index.ts');
      const survey = await surveyCache(path);
      if (survey.layout === 'files') {
        const { layout, folders } = survey;
        context.result({ dir: path, layout, components: folders }, () => formatFiles(path, folders));
        return;
      }
      const { components } = survey;
      const document = components.map(({ plan, ...rest }) => ({ ...rest, ...factsOf(plan) }));
      context.result({ dir: path, components: document }, () => format(path, components));
    });
}

/** A cache with a file for every image and teacher. */
function formatFiles(path: string, folders: readonly FilesSummary[]): string {
  const widest = Math.max(...folders.map(({ component }) => component.length));
  const total = folders.reduce((sum, { bytes }) => sum + bytes, 0);
  const lines = folders.map(({ component, files, sizes, bytes }) =>
    [component.padEnd(widest), `${files} files`, formatBytes(bytes), `pictures of ${nameSizes(sizes)}`].join('  '),
  );
  return [`${path}: files layout, ${formatBytes(total)}`, ...lines.map((line) => `  ${line}`)].join('\n');
}

function nameSizes(sizes: readonly string[]): string {
  const more = sizes.length > NAMED_SIZES ? ` and ${sizes.length - NAMED_SIZES} more sizes` : '';
  return `${sizes.slice(0, NAMED_SIZES).join(', ')}${more}`;
}

/** What a plan says in a few words; captions, views and samples are not among them. */
function factsOf(plan: ComponentSummary['plan']): Record<string, unknown> {
  const { dtype } = plan;
  switch (plan.component) {
    case 'latents':
      return { dtype, sizes: plan.sizes };
    case 'text':
      return { dtype, ...plan.shape };
    case 'teacher': {
      const { prediction, fields, draws, timesteps, noise } = plan;
      return { dtype, prediction, fields, draws, timesteps, noise };
    }
  }
}

function format(path: string, components: readonly ComponentSummary[]): string {
  const rows = components.map(({ component, plan, sealed, records, shards, bytes }) => [
    component,
    `${records} records`,
    `${shards} shards`,
    formatBytes(bytes),
    plan.dtype,
    sealed ? describe(plan) : `${describe(plan)}; NOT FINISHED`,
  ]);
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const total = components.reduce((sum, { bytes }) => sum + bytes, 0);
  const lines = rows.map((row) => `  ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')}`.trimEnd());
  return [`${path}: ${formatBytes(total)}`, ...lines].join('\n');
}

/** Most picture sizes that are named. */
const NAMED_SIZES = 3;

function describe(plan: ComponentSummary['plan']): string {
  switch (plan.component) {
    case 'latents':
      return `pictures of ${nameSizes(plan.sizes)}`;
    case 'text':
      return `${plan.shape.tokens} x ${plan.shape.width}${plan.shape.pooled === undefined ? '' : ', pooled'}`;
    case 'teacher': {
      const { prediction, fields, draws, timesteps, noise } = plan;
      const range = `timesteps ${timesteps[0]} to ${timesteps[1] - 1}`;
      return `${prediction}, ${fields.join(' and ')}, ${draws} ${draws === 1 ? 'draw' : 'draws'}, ${range}, ${noise.generator} noise`;
    }
  }
}
