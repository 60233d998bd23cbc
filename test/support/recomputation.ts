import type { VerificationReport } from '../../ts/cache/index.ts';

/** What of a recomputation is the same everywhere: all but the last digits of differences. */
export function verdictsOf({ verdict, findings, recomputation }: VerificationReport): object {
  return {
    verdict,
    findings: findings.map(({ component, code, entry }) => `${component}: ${code} ${entry}`),
    recomputation: recomputation?.components.map(({ difference: _, ...rest }) => rest),
    omitted: recomputation?.omitted,
  };
}
