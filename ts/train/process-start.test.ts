import { expect, it } from 'vitest';
import { parseProcessStart, processStart } from './process-start.ts';

it('finds the 22nd field after a name with spaces and brackets', () => {
  const fields = Array.from({ length: 50 }, (_, index) => String(index + 3));
  expect(parseProcessStart(`7 (a) b (c) ${fields.join(' ')}\n`)).toBe('22');
});

it.runIf(process.platform === 'linux')('tells processes apart', () => {
  const own = processStart(process.pid);
  expect(own).toMatch(/^\d+$/);
  expect(processStart(process.pid)).toBe(own);
});

it('knows nothing of processes that are not there', () => {
  expect(processStart(2147483646)).toBeUndefined();
});
