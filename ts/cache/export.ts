import { join } from 'node:path';
import { cancelled } from '../native/cancel.ts';
import type { ExportedCache, NamedImage } from '../native/generated/binding.js';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import { type Progress, silentProgress } from '../progress.ts';
import { sha256OfFile } from './data/digest.ts';
import { imageIdOf } from './data/image-names.ts';
import { listImages } from './data/walk.ts';

export type { ExportedCache };

/** How to export. */
export interface ExportOptions {
  /** Folder of the images: files are called by their images' paths in it. Without it, by the images' digests. */
  readonly images?: string | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** How often progress is looked at, in milliseconds. */
const POLL_MS = 200;

/**
 * Writes the conditional predictions of a cache's teachers in the files layout: `out/<teacher>/{sha1}_{W}x{H}.safetensors`.
 * What that layout has no place for is counted.
 *
 * @throws PotstillError when the cache is not sound enough to be read, or a teacher's folder in `out` is not empty
 */
export async function exportCache(dir: string, out: string, options: ExportOptions = {}): Promise<ExportedCache> {
  const { images, progress = silentProgress, signal } = options;
  const named = images === undefined ? [] : await nameImages(images, progress, signal);
  const { VerificationProgress, exportCache: run } = addon();
  const counts = new VerificationProgress();
  using cancel = cancelled(signal);
  using task = progress.start('exporting', { unit: 'files' });
  const timer = setInterval(() => task.set(counts.done), POLL_MS);
  try {
    const outcome = await run(dir, out, named, counts, cancel.token);
    signal?.throwIfAborted();
    return unwrap(outcome);
  } finally {
    clearInterval(timer);
  }
}

/** Every image of a folder by its digest; the layout calls it by its path without the ending. */
async function nameImages(folder: string, progress: Progress, signal: AbortSignal | undefined): Promise<NamedImage[]> {
  const paths = await listImages(folder, 'Check the path given to --images.');
  using task = progress.start('digesting images', { total: paths.length, unit: 'images' });
  const named: NamedImage[] = [];
  for (const path of paths) {
    signal?.throwIfAborted();
    named.push({ digest: await sha256OfFile(join(folder, path), signal), id: imageIdOf(path) });
    task.advance();
  }
  return named;
}
