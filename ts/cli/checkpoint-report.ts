import type { CheckpointReport, ComponentReport } from '../model/report.ts';
import { formatBytes } from './format.ts';

/** Most keys of one sort that the text shows; the JSON document has all. */
const MOST_KEYS = 20;

const KINDS = { sd15: 'Stable Diffusion 1.x', sdxl: 'Stable Diffusion XL' } as const;
const NAMES = {
  diffusers: "diffusers' names",
  ldm: "the original code's names",
  openclip: "OpenCLIP's names",
} as const;

/** A checkpoint's report as text. */
export function formatCheckpoint(report: CheckpointReport): string {
  const kind = report.kind === null ? 'no UNet' : KINDS[report.kind];
  const schedule = report.zeroTerminalSnr ? `${report.prediction}, ending at pure noise` : report.prediction;
  const lines = [
    `${report.path}: ${kind} (${report.layout === 'file' ? 'single file' : 'diffusers folder'})`,
    ...(report.kind === null ? [] : [`  predicts    ${schedule}`]),
    `  parameters  ${count(report.parameters)} in ${formatBytes(report.bytes)}`,
    ...report.components.flatMap(formatComponent),
    ...keys(
      '  not used',
      report.unused.map(({ key, reason }) => `${key}  (${reason})`),
    ),
    ...keys('  unexpected', report.unexpected),
    ...Object.entries(report.metadata)
      .filter(([key]) => key.startsWith('modelspec.'))
      .map(([key, value]) => `  ${key}  ${value}`),
    ...report.files.flatMap(({ path, sha256 }) => (sha256 === undefined ? [] : [`  sha256 ${sha256}  ${path}`])),
    report.sound ? 'Every key is accounted for.' : 'The weights do not fit the model.',
  ];
  return lines.join('\n');
}

function formatComponent(report: ComponentReport): string[] {
  const { renamed, squeezed, transposed, split } = report.converted;
  const done = [
    [renamed, 'renamed'],
    [squeezed, 'convolutions to matrices'],
    [transposed, 'transposed'],
    [split, 'split'],
  ] as const;
  const converted = done.filter(([n]) => n > 0).map(([n, what]) => `${n} ${what}`);
  const dtypes = Object.entries(report.dtypes).map(([dtype, n]) => (report.matched === n ? dtype : `${n} ${dtype}`));
  return [
    `  ${report.component.padEnd(14)}  ${report.matched} tensors matched, ${count(report.parameters)} parameters, ` +
      `${dtypes.join(', ')}; ${NAMES[report.names]}${converted.length === 0 ? '' : `: ${converted.join(', ')}`}`,
    ...keys(
      '    not used',
      report.unused.map(({ key, reason }) => `${key}  (${reason})`),
    ),
    ...keys('    missing', report.missing),
    ...keys('    unexpected', report.unexpected),
    ...keys(
      '    other shape',
      report.misshapen.map(({ key, wanted, found }) => `${key}  ${shape(found)} instead of ${shape(wanted)}`),
    ),
    ...keys(
      '    other dtype',
      report.wrongDtype.map(({ key, dtype }) => `${key}  ${dtype}`),
    ),
  ];
}

/** A heading with the number of keys, then the first of them. */
function keys(heading: string, list: readonly string[]): string[] {
  if (list.length === 0) return [];
  const indent = ' '.repeat(heading.length - heading.trimStart().length + 2);
  const more = list.length - MOST_KEYS;
  return [
    `${heading}  ${list.length}`,
    ...list.slice(0, MOST_KEYS).map((key) => `${indent}${key}`),
    ...(more > 0 ? [`${indent}and ${more} more (--json lists all)`] : []),
  ];
}

function shape(sizes: readonly number[]): string {
  return `[${sizes.join(', ')}]`;
}

function count(value: number): string {
  return value.toLocaleString('en');
}
