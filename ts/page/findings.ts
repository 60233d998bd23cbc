import type { Finding, VerificationReport } from '../cache/report.ts';

/** What is to be shown; everything when nothing is set. */
export interface FindingFilter {
  /** Anywhere in what a finding says, in any case. */
  readonly text?: string;
  readonly severity?: string;
  readonly component?: string;
  readonly code?: string;
  /** Only what matters for training. */
  readonly training?: boolean;
}

export function filterFindings(findings: readonly Finding[], filter: FindingFilter): Finding[] {
  const { severity = '', component = '', code = '', training = false } = filter;
  const text = (filter.text ?? '').trim().toLowerCase();
  return findings.filter(
    (finding) =>
      (severity === '' || finding.severity === severity) &&
      (component === '' || finding.component === component) &&
      (code === '' || finding.code === code) &&
      (!training || finding.training) &&
      (text === '' || textOf(finding).includes(text)),
  );
}

function textOf({ component, file, code, entry, expected, found, remedy }: Finding): string {
  return [component, file, code, entry, expected, found, remedy].join('\n').toLowerCase();
}

/** Findings of one kind in one component. */
export interface FindingGroup {
  readonly component: string;
  readonly code: string;
  readonly severity: Finding['severity'];
  readonly training: boolean;
  readonly remedy: string;
  readonly findings: readonly Finding[];
  /** How often it was found: a report lists at most 50. */
  readonly count: number;
}

/** By component and kind, errors first; otherwise in the order of the report. */
export function groupFindings(findings: readonly Finding[], counts: VerificationReport['counts']): FindingGroup[] {
  const groups = new Map<string, [Finding, ...Finding[]]>();
  for (const finding of findings) {
    const key = `${finding.component}\n${finding.code}\n${finding.severity}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [finding]);
    else group.push(finding);
  }
  return [...groups.values()]
    .map((group) => {
      const [{ component, code, severity, training, remedy }] = group;
      const count = Math.max(counts[component]?.[code] ?? 0, group.length);
      return { component, code, severity, training, remedy, findings: group, count };
    })
    .sort((a, b) => Number(a.severity === 'warning') - Number(b.severity === 'warning'));
}
