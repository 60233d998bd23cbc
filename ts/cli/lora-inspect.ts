import type { Command } from 'commander';
import type { AdapterReport } from '../adapter/index.ts';
import type { Context } from './command.ts';

/** `potstill lora inspect PATH` */
export function configureInspect(command: Command, context: Context): void {
  command
    .argument('<path>', "a .safetensors file, or a peft adapter's folder")
    .description(
      'Reads an adapter of kohya, ComfyUI, peft, diffusers or LyCORIS. A key that names no layer, or does not fit it, is an\n' +
        'error. The text shows blocks; --json has every layer.',
    )
    .option('--model <path>', 'the model that it is for, where that has other widths than the published ones')
    .action(async (path: string, { model }: { readonly model?: string }) => {
      const { inspectAdapter } = await import('../adapter/index.ts');
      const report = await inspectAdapter(path, model);
      context.result(report, () => format(path, report));
    });
}

const FAMILIES = { sd15: 'Stable Diffusion 1.x', sdxl: 'Stable Diffusion XL' } as const;

/** What trainers write of a training, in kohya's words. */
const TRAINED_ON = ['ss_sd_model_name', 'ss_dataset_dirs', 'ss_steps', 'ss_epoch', 'ss_learning_rate', 'ss_optimizer'];

/** Most characters of a metadata's value in the text. */
const MOST_CHARACTERS = 200;

function format(path: string, report: AdapterReport): string {
  const kinds = Object.entries(report.kinds).map(([kind, count]) => `${count} ${kind}`);
  const shown = Object.entries(report.metadata).filter(
    ([key]) => TRAINED_ON.includes(key) || (key.startsWith('modelspec.') && key !== 'modelspec.thumbnail'),
  );
  return [
    `${path}: ${FAMILIES[report.kind]}, ${report.dialect} dialect, ${report.dtype}`,
    `  layers  ${kinds.join(', ')}`,
    `  rank    ${tally(report.modules.map(({ rank }) => (rank === null ? 'none' : String(rank))))}`,
    `  scale   ${tally(report.modules.map(({ scale }) => scale.toPrecision(3)))}`,
    ...report.blocks.map(
      ({ name, modules, norm }) =>
        `  ${name.padEnd(28)}  ${String(modules).padStart(4)} layers, norm ${norm.toPrecision(4)}`,
    ),
    ...shown.map(([key, value]) => `  ${shorten(key)}  ${shorten(value)}`),
    ...report.provenance.map(({ tool, operation }) => `  made by  ${shorten(`${tool}: ${operation}`)}`),
    'Every key is accounted for.',
  ].join('\n');
}

/** The values, most frequent first, with their numbers where there are several. */
function tally(values: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]);
  return sorted.map(([value, count]) => (sorted.length === 1 ? value : `${value} (${count})`)).join(', ');
}

/** For one line of a terminal: what a stranger's file says can hold line ends and the terminal's own commands. */
function shorten(value: string): string {
  const short = value.length > MOST_CHARACTERS ? `${value.slice(0, MOST_CHARACTERS)}…` : value;
  return short.replaceAll(/\p{C}/gu, '\u{FFFD}');
}
