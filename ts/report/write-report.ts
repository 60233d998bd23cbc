import { existsSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { loadRun, RUN_FILES } from './load-run.ts';
import { madeBy } from './made-by.ts';
import { renderReport } from './render.ts';

/**
 * Writes a run's report as one HTML page, whole or not at all.
 *
 * @param run a run's folder, or a demo's, whose run lies in `run`
 * @param out where to; `report.html` in the run's folder unless given
 * @returns the page's absolute path
 */
export async function writeReport(run: string, out: string = join(run, 'report.html')): Promise<string> {
  const inDemo = join(run, 'run');
  const isDemo = !existsSync(join(run, RUN_FILES.recipe)) && existsSync(join(inDemo, RUN_FILES.recipe));
  const page = renderReport(await loadRun(isDemo ? inDemo : run, madeBy()));
  const path = resolve(out);
  await mkdir(dirname(path), { recursive: true });
  const unfinished = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(unfinished, page, { flush: true });
    await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
  return path;
}
