import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Finding, VerificationReport } from './report.ts';
import { requireSound } from './require-sound.ts';

const NEEDED = ['latents', 'text', 'teachers/first'];

function reportOf(...findings: readonly Partial<Finding>[]): VerificationReport {
  const complete = findings.map((finding) => ({
    component: 'teachers/first',
    file: '',
    code: 'shard-missing',
    entry: '',
    severity: 'error' as const,
    expected: 'a file',
    found: 'nothing',
    training: true,
    remedy: '',
    ...finding,
  }));
  return {
    format: 'potstill-verification',
    version: 1,
    level: 2,
    verdict: 'damaged',
    components: [],
    counts: {},
    findings: complete,
    statistics: [],
  };
}

describe('requireSound', () => {
  it('lets pass what is wrong elsewhere, and warnings', () => {
    const report = reportOf({ component: 'teachers/second' }, { component: 'teachers/first', severity: 'warning' });
    expect(() => requireSound('cache', report, NEEDED)).not.toThrow();
    expect(() => requireSound('cache', report, [...NEEDED, 'teachers/second'])).toThrow('shard-missing');
  });

  it('names the file that is damaged, and how many findings there are besides', () => {
    const file = 'text/shard-00000.safetensors';
    const report = reportOf({ component: 'text', file }, {}, { component: 'teachers/second' });
    expect(() => requireSound('cache', report, NEEDED)).toThrow(
      expect.objectContaining({
        code: 'ERR_CACHE_DAMAGED',
        kind: 'check',
        where: join('cache', file),
        what: 'the cache is damaged: shard-missing, expected a file, found nothing (and 1 more findings)',
        remedy: expect.stringContaining('delete the damaged component'),
      }),
    );
  });

  it('advises to wait, not to delete, where a build may be at work', () => {
    const report = reportOf({ file: 'teachers/first/shard-00001.safetensors' }, { code: 'unsealed' });
    expect(() => requireSound('cache', report, NEEDED)).toThrow(
      expect.objectContaining({
        where: join('cache', 'teachers/first'),
        what: 'teachers/first of the cache is not built to its end (and 1 more findings)',
        remedy: expect.stringContaining('wait until it has ended'),
      }),
    );
  });
});
