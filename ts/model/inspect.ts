import { sha256OfFile } from '../cache/data/digest.ts';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import { type Progress, silentProgress } from '../progress.ts';
import type { CheckpointReport } from './report.ts';

/** How to look at a checkpoint. */
export interface InspectOptions {
  /** Also read the files whole, for their SHA-256: the digest that the Hub and model sites show. */
  readonly digests?: boolean | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads the headers and configurations of a single file or a diffusers folder; no weights, unless digests are asked for.
 *
 * @throws PotstillError naming what the file is when it is no SD1.5 or SDXL model
 */
export async function inspectModel(path: string, options: InspectOptions = {}): Promise<CheckpointReport> {
  const report = JSON.parse(unwrap(await addon().inspectCheckpoint(path))) as CheckpointReport;
  if (options.digests !== true) return report;
  const { progress = silentProgress, signal } = options;
  const files: CheckpointReport['files'][number][] = [];
  for (const file of report.files) {
    using _task = progress.start(`digest of ${file.path}`);
    files.push({ ...file, sha256: await sha256OfFile(file.path, signal) });
  }
  return { ...report, files };
}
