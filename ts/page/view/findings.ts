import type { Finding, VerificationReport } from '../../cache/report.ts';
import { type FindingFilter, type FindingGroup, filterFindings, groupFindings } from '../findings.ts';
import { foreign, h } from './dom.ts';

/** Findings of a group that are shown at first. */
const SHOWN = 5;

/** The findings of a report, to be filtered. */
export function findingsView({ findings, counts }: VerificationReport): HTMLElement {
  if (findings.length === 0) return h('section', {}, h('h3', {}, 'Findings'), h('p', {}, 'None.'));
  const list = h('div');
  const count = h('p', { class: 'soft', role: 'status' });
  const fields = filterFields(findings, () => draw());
  const draw = (): void => {
    const shown = filterFindings(findings, fields.filter());
    const listed = findings.length === total(counts) ? '' : ` (of ${total(counts)}: at most 50 of a kind are listed)`;
    count.textContent = `${shown.length} of ${findings.length} findings shown${listed}`;
    list.replaceChildren(...groupFindings(shown, counts).map(groupView));
  };
  draw();
  return h('section', {}, h('h3', {}, 'Findings'), fields.element, count, list);
}

function total(counts: VerificationReport['counts']): number {
  return Object.values(counts).reduce((sum, ofCode) => sum + Object.values(ofCode).reduce((a, b) => a + b, 0), 0);
}

interface FilterFields {
  readonly element: HTMLElement;
  filter(): FindingFilter;
}

function filterFields(findings: readonly Finding[], changed: () => void): FilterFields {
  const choice = (all: string, values: Iterable<string>): HTMLSelectElement =>
    h(
      'select',
      { change: changed },
      h('option', { value: '' }, all),
      [...new Set(values)].map((value) => h('option', { value }, value)),
    );
  const text = h('input', { type: 'search', input: changed, placeholder: 'file, entry, words…' });
  const severity = choice(
    'all',
    findings.map((finding) => finding.severity),
  );
  const code = choice(
    'all',
    findings.map((finding) => finding.code),
  );
  const component = choice(
    'all',
    findings.map((finding) => finding.component),
  );
  const training = h('input', { type: 'checkbox', change: changed });
  const element = h(
    'div',
    { class: 'filters row', role: 'search', 'aria-label': 'Filter the findings' },
    h('label', {}, 'Search ', text),
    h('label', {}, 'Severity ', severity),
    h('label', {}, 'Code ', code),
    h('label', {}, 'Part ', component),
    h('label', {}, training, ' only what matters for training'),
  );
  return {
    element,
    filter: () => ({
      text: text.value,
      severity: severity.value,
      code: code.value,
      component: component.value,
      training: training.checked,
    }),
  };
}

function groupView({ component, code, severity, training, remedy, findings, count }: FindingGroup): HTMLElement {
  const body = h('tbody', {}, findings.slice(0, SHOWN).map(row));
  const rest = findings.slice(SHOWN);
  const more = h('button', { type: 'button', class: 'link' }, `Show ${rest.length} more`);
  more.addEventListener('click', () => {
    const added = rest.map(row);
    body.append(...added);
    more.remove();
    // Keyboard users go on where the button was.
    added[0]?.setAttribute('tabindex', '-1');
    added[0]?.focus();
  });
  const headings = ['where', 'expected', 'found'].map((text) => h('th', { scope: 'col' }, text));
  return h(
    'details',
    { class: 'group', open: true },
    h(
      'summary',
      {},
      h('span', { class: severity === 'error' ? 'bad' : 'warn' }, severity),
      h('code', {}, code),
      h('span', {}, 'in ', foreign(component)),
      h(
        'span',
        { class: 'soft' },
        `${count === 1 ? 'once' : `${count} times`}, ${training ? 'matters for training' : 'training is not affected'}`,
      ),
    ),
    h('p', { class: 'soft' }, 'Do: ', foreign(remedy)),
    h('table', {}, h('thead', {}, h('tr', {}, headings)), body),
    rest.length > 0 ? more : null,
  );
}

function row({ component, file, entry, expected, found }: Finding): HTMLTableRowElement {
  // In the files layout an entry is a file.
  const places = [file, file.includes(entry) ? '' : entry].filter((part) => part !== '');
  const cell = (label: string, ...content: Parameters<typeof h>[2][]): HTMLElement =>
    h('td', { class: 'any', 'data-label': label }, ...content);
  return h(
    'tr',
    {},
    cell(
      'where',
      (places.length > 0 ? places : [component]).flatMap((part, i) => [i > 0 ? h('br') : null, foreign(part)]),
    ),
    cell('expected', foreign(expected)),
    cell('found', foreign(found)),
  );
}
