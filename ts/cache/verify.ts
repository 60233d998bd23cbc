import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Device, DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import { requireModelMemory } from '../machine/index.ts';
import { inspectModel } from '../model/inspect.ts';
import { addonCandidates } from '../native/load.ts';
import { chooseAddon } from '../native/load-engine.ts';
import { type Progress, type ProgressTask, silentProgress } from '../progress.ts';
import { listImages } from './data/walk.ts';
import { isRemote } from './place.ts';
import { type RecomputeOptions, recomputeRequest } from './recomputation.ts';
import type { VerificationReport } from './report.ts';
import type { Report } from './teller.ts';
import { verifyNatively } from './verify-native.ts';
import { type FilesNaming, imagesJson } from './verify-requests.ts';
import { verifyInWasm } from './verify-wasm.ts';

/** What verifies: the addon, the WASM module, or the module where there is no addon. */
export type VerifyBackend = 'auto' | 'native' | 'wasm';

/** The images that a cache was made of. Files of the files layout seldom name them; shards know their digests. */
export interface FilesImages extends FilesNaming {
  /** Folder of the images. */
  readonly folder: string;
}

/** How to verify. */
export interface VerifyOptions {
  readonly backend?: VerifyBackend | undefined;
  /** With them the seeds of a cache in the files layout are made anew, and images without a file found. */
  readonly images?: FilesImages | undefined;
  /** Computes entries again from the weights: the third level. Latents need {@link images}. */
  readonly recompute?: RecomputeOptions | undefined;
  /** Where to compute them; the CPU unless given. */
  readonly device?: DeviceName | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A report, as it was written and parsed. */
export interface Verification {
  /** Canonical JSON: the same bytes from every backend, on every machine. */
  readonly json: string;
  readonly report: VerificationReport;
  readonly backend: 'native' | 'wasm';
}

/** What both backends are told. */
export interface BackendOptions {
  /** The images of a cache in the files layout, as JSON. */
  readonly images: string | undefined;
  /** What to compute again, as JSON. */
  readonly recomputation: string | undefined;
  /** Told of bytes that were read. */
  readonly bytes: Report;
  /** Told of entries that were computed again. */
  readonly entries: Report;
  readonly signal: AbortSignal | undefined;
}

/**
 * Verifies a cache in a folder or at an `s3://` location: structure (every file parses; digests, shapes, finite values, coverage of the plan) and determinism
 * (seeds, timesteps and noise made anew; predictions plausible), and, when asked, recomputation (entries drawn by a nonce are
 * computed again from the weights). Writes nothing.
 * Whatever is wrong in the cache is a finding of the report. Both layouts are recognised; the files layout has no plan, so
 * its files are held against their names, their seeds and one another.
 *
 * @throws PotstillError when the folder is no cache at all, the backend that was named is not there, or a model is not one
 *   that the cache was made with
 */
export async function verifyCache(folder: string, options: VerifyOptions = {}): Promise<Verification> {
  const { backend = 'auto', progress = silentProgress, signal, images, recompute, device } = options;
  const cache = isRemote(folder) ? folder : await requireCacheFolder(folder);
  // Begun at the first report, for only then is it known how much there is to do.
  let tasks: ProgressTask[] = [];
  const reporter = (label: string, unit: string): Report => {
    let task: ProgressTask | undefined;
    return (done, total) => {
      if (total === 0) return;
      if (task === undefined) {
        task = progress.start(label, { total, unit });
        tasks = [...tasks, task];
      }
      task.set(done);
    };
  };
  const inWasm = chooseBackend(backend, folder) === 'wasm';
  if (inWasm && device !== undefined && device !== 'cpu' && device !== 'auto') {
    throw inputError('ERR_DEVICE', `WASM computes on the CPU, not on ${device}`, {
      where: '--device',
      remedy: 'Leave --device out, or verify with --backend native.',
    });
  }
  try {
    const chosen = inWasm ? undefined : chooseAddon({ device, say: (line) => progress.log(line) });
    // In WASM the weights of what is large are read at every use, and there is no addon to ask.
    if (chosen !== undefined) await requireMemoryOf(recompute?.models ?? [], chosen.device);
    const told: BackendOptions = {
      images: images === undefined ? undefined : await nameImages(images),
      recomputation: recompute === undefined ? undefined : await recomputeRequest(recompute, images?.folder),
      bytes: reporter('verifying', 'bytes'),
      entries: reporter('recomputing', 'entries'),
      signal,
    };
    const json = await (chosen === undefined ? verifyInWasm(cache, told) : verifyNatively(cache, chosen, told));
    return { json, report: JSON.parse(json) as VerificationReport, backend: inWasm ? 'wasm' : 'native' };
  } finally {
    for (const task of tasks) task.end();
  }
}

async function requireCacheFolder(folder: string): Promise<string> {
  const info = await stat(folder).catch(() => undefined);
  if (info?.isDirectory() === true) return resolve(folder);
  throw inputError('ERR_CACHE_MISSING', info === undefined ? 'no such folder' : 'is not a folder', {
    where: folder,
    remedy: "Name the cache's folder: the one with latents, text and teachers in it, or with the teachers' files.",
  });
}

function chooseBackend(backend: VerifyBackend, cache: string): 'native' | 'wasm' {
  const hasAddon = (): boolean => addonCandidates().some(({ loaded }) => loaded);
  const chosen = backend === 'auto' ? (hasAddon() ? 'native' : 'wasm') : backend;
  if (chosen === 'native' || !isRemote(cache)) return chosen;
  throw inputError('ERR_S3_LOCATION', 'only the native backend reads from S3', {
    where: cache,
    remedy: 'Leave out --backend wasm, or copy the cache to a folder, for instance with `aws s3 sync`.',
  });
}

/** One component of one model is loaded at a time; the UNet is the largest, and a VAE alone is small. */
async function requireMemoryOf(models: readonly string[], device: Device): Promise<void> {
  for (const model of models) if (await hasUnet(model)) await requireModelMemory([{ model, part: 'unet' }], device);
}

async function hasUnet(model: string): Promise<boolean> {
  if (existsSync(join(model, 'unet'))) return true;
  const { components } = await inspectModel(model);
  return components.some(({ component }) => component === 'unet');
}

/** Images as addon and WASM module take them. */
async function nameImages({ folder, ...naming }: FilesImages): Promise<string> {
  return imagesJson(await listImages(folder, 'Check the path given to --images.'), naming);
}
