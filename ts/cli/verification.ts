import type { Finding, Provenance, Recomputation, RecomputedComponent, VerificationReport } from '../cache/index.ts';
import { formatBytes } from './format.ts';

/** Findings of a kind that are shown one by one. */
const SHOWN = 5;

/** By level. */
const DEPTHS = ['', 'structure', 'structure and determinism', 'structure, determinism and recomputation'];

/** A verification report for a person: what was looked at, then the findings by kind, each kind with its remedy. */
export function formatReport(dir: string, report: VerificationReport): string {
  const { components, findings, verdict, level, layout, provenance = [] } = report;
  const depth = DEPTHS[level] ?? '';
  const widest = Math.max(...components.map(({ component }) => component.length));
  const lines = [`${dir}: ${verdict === 'ok' ? 'ok' : 'DAMAGED'} (${depth})`];
  for (const { component, records, shards, bytes } of components) {
    const count = layout === 'files' ? `${records} files` : `${records} records, ${shards} shards`;
    lines.push(`  ${component.padEnd(widest)}  ${count}, ${formatBytes(bytes)}`);
    lines.push(...provenance.filter((made) => made.component === component).map(formatProvenance));
  }
  if (report.recomputation !== undefined) lines.push('', ...formatRecomputation(report.recomputation));
  for (const group of groupFindings(findings)) lines.push('', ...formatGroup(group, report));
  return lines.join('\n');
}

/** What was computed again, and what it says of the rest. */
function formatRecomputation({ nonce, components, omitted }: Recomputation): string[] {
  return [
    `computed again, drawn by the nonce ${nonce}:`,
    ...components.map((component) => `  ${formatRecomputed(component)}`),
    ...omitted.map(({ component, reason }) => `  ${component}: not computed again: ${reason}`),
  ];
}

function formatRecomputed({ component, entries, compared, wrong, undetected, ...rest }: RecomputedComponent): string {
  const drawn = `${component}: ${compared} of ${entries}`;
  if (compared === 0) return `${drawn}: says nothing`;
  if (wrong > 0) return `${drawn}, ${wrong} WRONG`;
  const [difference, tolerance] = [rest.difference, rest.tolerance].map((share) => share.toExponential(1));
  const share = ((100 * undetected) / entries).toFixed(1);
  const bound =
    undetected === 0 ? 'none can be wrong' : `at most ${undetected} (${share} %) can be wrong, with 99 % confidence`;
  return `${drawn}, all right (differences up to ${difference}, tolerance ${tolerance}): ${bound}`;
}

/** How a teacher's files were made, in a line below its own. */
function formatProvenance({ noise, timesteps, seeds }: Provenance): string {
  const generators = noise.map((share) => (noise.length > 1 ? `${share.noise} (${share.entries})` : share.noise));
  const range = timesteps === null ? 'unknown' : `${timesteps[0]} to ${timesteps[1] - 1}`;
  return `    noise ${generators.join('; ')}; timesteps ${range}; seeds of ${seeds === 'unknown' ? 'unknown making' : seeds}`;
}

/** Findings of one kind in one component; never empty. */
type Group = readonly [Finding, ...Finding[]];

/** By component and kind, errors first; otherwise in the order of the report. */
function groupFindings(findings: readonly Finding[]): Group[] {
  const groups = new Map<string, [Finding, ...Finding[]]>();
  for (const finding of findings) {
    const key = `${finding.component}\n${finding.code}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [finding]);
    else group.push(finding);
  }
  const isWarning = ([{ severity }]: Group): number => (severity === 'warning' ? 1 : 0);
  return [...groups.values()].sort((a, b) => isWarning(a) - isWarning(b));
}

function formatGroup(group: Group, { counts }: VerificationReport): string[] {
  const [{ component, code, severity, training, remedy }] = group;
  const count = counts[component]?.[code] ?? group.length;
  const effect = training ? '' : ' (training is not affected)';
  const lines = [`${severity}: ${code} in ${component}${count > 1 ? `, ${count} times` : ''}${effect}`];
  for (const { file, entry, expected, found } of group.slice(0, SHOWN)) {
    const place = [file, entry].filter((part) => part !== '').join(', ');
    lines.push(`  ${place === '' ? component : place}`, `    expected ${expected}`, `    found    ${found}`);
  }
  if (count > SHOWN) lines.push(`  and ${count - SHOWN} more; --json lists up to 50`);
  lines.push(`  do: ${remedy}`);
  return lines;
}
