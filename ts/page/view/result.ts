import type {
  Provenance,
  Recomputation,
  RecomputedComponent,
  VerificationReport,
  VerifiedComponent,
} from '../../cache/report.ts';
import { formatBytes } from '../../cli/format.ts';
import { foreign, h, scrolling, table } from './dom.ts';
import { saveText } from './download.ts';
import { findingsView } from './findings.ts';

/** By level. */
const DEPTHS = ['', 'structure', 'structure and determinism', 'structure, determinism and recomputation'];

/** A report, for the section of results. */
export function resultView(name: string, report: VerificationReport): HTMLElement[] {
  return [
    verdictView(name, report),
    partsView(report),
    ...(report.recomputation === undefined ? [] : [recomputationView(report.recomputation)]),
    findingsView(report),
    statisticsView(report),
  ];
}

function verdictView(name: string, report: VerificationReport): HTMLElement {
  const isOk = report.verdict === 'ok';
  const [errors, warnings] = (['error', 'warning'] as const).map(
    (severity) => report.findings.filter((finding) => finding.severity === severity).length,
  );
  const found = `${counted(errors ?? 0, 'error')} and ${counted(warnings ?? 0, 'warning')} listed`;
  return h(
    'div',
    { class: isOk ? 'verdict' : 'verdict damaged' },
    h(
      'h2',
      { id: 'verdict', tabindex: -1 },
      foreign(name),
      ': ',
      h('strong', { class: isOk ? 'good' : 'bad' }, isOk ? 'ok' : 'damaged'),
    ),
    h('p', {}, `Checked: ${DEPTHS[report.level] ?? ''}. ${found}.`),
    h(
      'p',
      { class: 'row' },
      h(
        'button',
        {
          type: 'button',
          id: 'download',
          // The bytes that `potstill cache verify --json` prints.
          click: () => saveText('potstill-verification.json', `${JSON.stringify(report, null, 2)}\n`),
        },
        'Download the report (JSON)',
      ),
    ),
  );
}

function counted(count: number, what: string): string {
  return `${count} ${count === 1 ? what : `${what}s`}`;
}

function partsView({ components, layout, provenance = [] }: VerificationReport): HTMLElement {
  const isFiles = layout === 'files';
  const count = ({ records, shards }: VerifiedComponent): string =>
    isFiles ? counted(records, 'file') : `${counted(records, 'record')}, ${counted(shards, 'shard')}`;
  const headings = ['part', 'what', 'bytes read', ...(isFiles ? ['noise', 'timesteps', 'seeds of'] : [])];
  const rows = components.map((component) => {
    const made = provenance.find((one) => one.component === component.component);
    const own = [foreign(component.component), count(component), formatBytes(component.bytes)];
    return isFiles ? [...own, ...(made === undefined ? ['', '', ''] : provenanceCells(made))] : own;
  });
  return h('section', {}, h('h3', {}, 'Parts'), scrolling('Parts', table(headings, rows, [2])));
}

function provenanceCells({ noise, timesteps, seeds }: Provenance): string[] {
  const generators = noise.map((share) => (noise.length > 1 ? `${share.noise} (${share.entries})` : share.noise));
  const range = timesteps === null ? 'unknown' : `${timesteps[0]} to ${timesteps[1] - 1}`;
  return [generators.join('; '), range, seeds === 'unknown' ? 'unknown making' : seeds];
}

function recomputationView({ nonce, components, omitted }: Recomputation): HTMLElement {
  const rows = components.map((component) => [
    foreign(component.component),
    `${component.compared} of ${component.entries}`,
    component.wrong === 0 ? '0' : h('strong', { class: 'bad' }, `${component.wrong}`),
    component.compared === 0
      ? ''
      : `${component.difference.toExponential(1)} of ${component.tolerance.toExponential(1)}`,
    guarantee(component),
  ]);
  const headings = ['part', 'computed again', 'wrong', 'difference of tolerance', 'with 99 % confidence'];
  return h(
    'section',
    {},
    h('h3', {}, 'Computed again'),
    h('p', { class: 'soft' }, 'Drawn by the nonce ', h('code', {}, nonce), ', which draws the same entries again.'),
    scrolling('Computed again', table(headings, rows, [1, 2])),
    h(
      'ul',
      { class: 'picked soft' },
      omitted.map(({ component, reason }) =>
        h('li', {}, foreign(component), ': not computed again: ', foreign(reason)),
      ),
    ),
  );
}

function guarantee({ compared, wrong, undetected, entries }: RecomputedComponent): string {
  if (compared === 0) return 'nothing is known';
  if (wrong > 0) return 'it is damaged';
  if (undetected === 0) return 'none can be wrong';
  return `at most ${undetected} (${((100 * undetected) / entries).toFixed(1)} %) can be wrong`;
}

function statisticsView({ statistics }: VerificationReport): HTMLElement {
  const rows = statistics.flatMap(({ component, field, bands }) =>
    bands.map(({ from, to, count, rms, correlation, calibration }) => [
      foreign(component),
      field,
      `${from} to ${to - 1}`,
      count,
      ...[rms, correlation, calibration].map((value) => value.toFixed(3)),
    ]),
  );
  if (rows.length === 0) return h('div');
  const headings = ['part', 'field', 'timesteps', 'entries', 'rms', 'correlation', 'slope'];
  return h(
    'details',
    {},
    h('summary', {}, 'Predictions by timestep'),
    h(
      'p',
      { class: 'soft' },
      'Against what a perfect teacher would predict; the slope of a trained teacher is near 1.',
    ),
    scrolling('Predictions by timestep', table(headings, rows, [3, 4, 5, 6])),
  );
}
