import { expect, test } from 'vitest';
import type { Finding } from '../cache/report.ts';
import { filterFindings, groupFindings } from './findings.ts';

const finding = (parts: Partial<Finding>): Finding => ({
  component: 'text',
  file: 'text/shard-00000.safetensors',
  code: 'shard-digest',
  entry: '',
  severity: 'error',
  expected: 'abc',
  found: 'DEF',
  training: true,
  remedy: 'copy it again',
  ...parts,
});

const FINDINGS = [
  finding({ code: 'leftover', severity: 'warning', training: false }),
  finding({}),
  finding({ component: 'latents', entry: 'image|view' }),
  finding({ entry: 'another' }),
];

test.each([
  [{}, [0, 1, 2, 3]],
  [{ severity: 'warning' }, [0]],
  [{ code: 'shard-digest' }, [1, 2, 3]],
  [{ component: 'latents' }, [2]],
  [{ training: true }, [1, 2, 3]],
  [{ text: ' def ' }, [0, 1, 2, 3]],
  [{ text: 'IMAGE|' }, [2]],
  [{ text: 'anoth', component: 'latents' }, []],
])('filters by %j', (filter, left) => {
  expect(filterFindings(FINDINGS, filter).map((one) => FINDINGS.indexOf(one))).toEqual(left);
});

test('groups by part and kind, errors first, and counts what the report does not list', () => {
  const groups = groupFindings(FINDINGS, { text: { 'shard-digest': 70, leftover: 1 } });
  expect(groups.map(({ component, code, count, findings }) => [component, code, count, findings.length])).toEqual([
    ['text', 'shard-digest', 70, 2],
    ['latents', 'shard-digest', 1, 1],
    ['text', 'leftover', 1, 1],
  ]);
});
