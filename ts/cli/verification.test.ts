import { expect, it } from 'vitest';
import type { Finding, VerificationReport } from '../cache/index.ts';
import { formatReport } from './verification.ts';

const component = { component: 'latents', plan: 'ab', seal: 'cd', records: 8, shards: 1, bytes: 8_420 };
const ok: VerificationReport = {
  format: 'potstill-verification',
  version: 1,
  level: 2,
  verdict: 'ok',
  components: [component, { ...component, component: 'teachers/animals', records: 32 }],
  counts: {},
  findings: [],
  statistics: [],
};

const finding = (code: string, overrides: Partial<Finding> = {}): Finding => ({
  component: 'latents',
  file: 'latents/shard-00000.safetensors',
  code,
  entry: '',
  severity: 'error',
  expected: 'this',
  found: 'that',
  training: true,
  remedy: 'build it again',
  ...overrides,
});

it('a good cache takes a line and one for each component', () => {
  expect(formatReport('cache', ok)).toBe(
    [
      'cache: ok (structure and determinism)',
      '  latents           8 records, 1 shards, 8.42 KB',
      '  teachers/animals  32 records, 1 shards, 8.42 KB',
    ].join('\n'),
  );
});

it('findings are grouped by kind, errors first, with the number of those not shown', () => {
  const report: VerificationReport = {
    ...ok,
    level: 1,
    verdict: 'damaged',
    counts: { latents: { leftover: 1, 'key-mismatch': 120 } },
    findings: [
      finding('leftover', { severity: 'warning', training: false, file: 'latents/.potstill-x.tmp' }),
      ...Array.from({ length: 50 }, (_, record) => finding('key-mismatch', { entry: `record ${record}` })),
    ],
  };
  const lines = formatReport('cache', report).split('\n');
  expect(lines[0]).toBe('cache: DAMAGED (structure)');
  expect(lines.slice(4, 8)).toEqual([
    'error: key-mismatch in latents, 120 times',
    '  latents/shard-00000.safetensors, record 0',
    '    expected this',
    '    found    that',
  ]);
  expect(lines).toContain('  and 115 more; --json lists up to 50');
  expect(lines.at(-5)).toBe('warning: leftover in latents (training is not affected)');
  expect(lines.at(-1)).toBe('  do: build it again');
});
