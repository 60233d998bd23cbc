import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, STAMPS } from './paths.mjs';

/**
 * Digest of files and folders by content, so that neither a checkout's times nor a copied tree matters.
 *
 * @param {readonly string[]} inputs paths from the root; those that are not there count as absent
 * @param {(path: string) => boolean} [keep] which files below them count
 */
export function fingerprint(inputs, keep = () => true) {
  const hash = createHash('sha256');
  const add = (path) => {
    const absolute = join(ROOT, path);
    if (!existsSync(absolute)) return;
    if (statSync(absolute).isDirectory()) {
      for (const name of readdirSync(absolute).sort()) add(`${path}/${name}`);
    } else if (keep(path)) {
      const content = readFileSync(absolute);
      hash.update(`${path}\0${content.length}\0`).update(content);
    }
  };
  for (const input of inputs) add(input);
  return hash.digest('hex');
}

/** Was this step last finished with this fingerprint? */
export function isStamped(id, print) {
  const file = join(STAMPS, id);
  return existsSync(file) && readFileSync(file, 'utf8') === print;
}

/** Notes that a step was finished with this fingerprint. */
export function stamp(id, print) {
  mkdirSync(STAMPS, { recursive: true });
  const file = join(STAMPS, id);
  writeFileSync(`${file}.new`, print);
  renameSync(`${file}.new`, file);
}
