import { rm } from 'node:fs/promises';
import { verifyCache } from '../cache/index.ts';
import type { Progress } from '../progress.ts';
import type { VerificationRow } from '../report/index.ts';
import { DAMAGES, damagedCopy } from './damage.ts';

/** What every verification of the demo is given. */
interface VerifyOptions {
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Verifies a cache natively and in WASM, and compares the reports byte for byte. */
export async function verifyTwice(
  cache: string,
  subject: string,
  expected: VerificationRow['expected'],
  options: VerifyOptions,
): Promise<VerificationRow> {
  const timed = async (backend: 'native' | 'wasm'): Promise<{ json: string; seconds: number; found: Found }> => {
    const begun = performance.now();
    const { json, report } = await verifyCache(cache, { ...options, backend });
    const errors = report.findings.filter(({ severity }) => severity === 'error');
    const findings = [...new Set(errors.map(({ code }) => code))];
    const entries = report.components.reduce((sum, { records }) => sum + records, 0);
    return { json, seconds: (performance.now() - begun) / 1000, found: { findings, entries } };
  };
  const native = await timed('native');
  const wasm = await timed('wasm');
  return {
    subject,
    expected,
    ...native.found,
    wasmEqual: native.json === wasm.json,
    seconds: { native: native.seconds, wasm: wasm.seconds },
  };
}

type Found = Pick<VerificationRow, 'findings' | 'entries'>;

/** Verifies a copy of a cache for every kind of damage; the copies are removed again. */
export async function verifyDamaged(
  cache: string,
  scratch: string,
  teacher: string,
  options: VerifyOptions,
): Promise<VerificationRow[]> {
  const rows: VerificationRow[] = [];
  using task = options.progress.start('verifying damaged copies', { total: DAMAGES.length, unit: 'copies' });
  for (const damage of DAMAGES) {
    options.signal.throwIfAborted();
    await damagedCopy(cache, scratch, teacher, damage);
    rows.push(await verifyTwice(scratch, damage.subject, 'damage', options));
    task.advance();
  }
  await rm(scratch, { recursive: true, force: true });
  return rows;
}
