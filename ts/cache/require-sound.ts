import { PotstillError } from '../errors.ts';
import { placeIn } from './place.ts';
import type { VerificationReport } from './report.ts';

/** Kind of finding of a component without a seal, and so perhaps of one that is still being built. */
const UNSEALED = 'unsealed';

/**
 * Refuses a cache in whose `components` verification found an error. Others that lie beside them are nobody's concern
 * here: a cache is shared, and another recipe's teacher may be half built.
 *
 * @param dir the cache's folder
 * @param components names of those that are needed: `latents`, `text`, `teachers/<id>`
 * @throws PotstillError `ERR_CACHE_DAMAGED`
 */
export function requireSound(dir: string, { findings }: VerificationReport, components: readonly string[]): void {
  const errors = findings.filter(({ severity, component }) => severity === 'error' && components.includes(component));
  // Before what follows from it, such as missing shards.
  const first = errors.find(({ code }) => code === UNSEALED) ?? errors[0];
  if (first === undefined) return;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more findings)` : '';
  const refuse = (what: string, remedy: string): PotstillError =>
    new PotstillError({
      code: 'ERR_CACHE_DAMAGED',
      kind: 'check',
      what: `${what}${more}`,
      where: placeIn(dir, first.file === '' ? first.component : first.file),
      remedy,
    });
  if (first.code === UNSEALED) {
    throw refuse(
      `${first.component} of the cache is not built to its end`,
      'Another build may be at work on it: wait until it has ended. If there is none, run the same command again, which goes on where it stopped.',
    );
  }
  throw refuse(
    `the cache is damaged: ${first.code}, expected ${first.expected}, found ${first.found}`,
    `See \`potstill cache verify ${dir}\`; delete the damaged component's folder to build it anew.`,
  );
}
