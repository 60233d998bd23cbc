import { type Command, Option } from 'commander';
import type { RecomputeOptions } from '../cache/index.ts';
import type { DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import { serveVerifyPage } from './cache-verify-serve.ts';
import type { Context } from './command.ts';
import { verifyDeviceOption } from './device.ts';
import { collect, parseCount, parseInteger } from './parse.ts';
import { formatReport } from './verification.ts';

interface VerifyOptions {
  readonly backend: 'auto' | 'native' | 'wasm';
  readonly images?: string;
  readonly baseSeed?: number;
  readonly nameVersion?: string;
  readonly recompute?: number;
  readonly model: readonly string[];
  readonly nonce?: string;
  readonly device?: DeviceName;
  readonly serve?: boolean;
}

/** `potstill cache verify PATH` */
export function configureVerify(command: Command, context: Context): void {
  command
    .argument('[path]', "a cache's folder, or s3://bucket/path")
    .description(
      'Checks that a cache is what its plans and seals say, and, with --recompute, what the weights give. Exits with 1 if not.',
    )
    .addOption(
      new Option('--backend <name>', 'what verifies; the report is the same to the byte (of --recompute: the verdict)')
        .choices(['auto', 'native', 'wasm'])
        .default('auto'),
    )
    .option('--recompute <n>', 'computes n entries of every component again, drawn at random', parseCount)
    .option('--model <path>', 'a model that the cache was made with, or a VAE alone; may be repeated', collect, [])
    .addOption(verifyDeviceOption())
    .option('--nonce <text>', 'draws the entries that another verification drew; its report shows the nonce')
    .option(
      '--images <folder>',
      'the images: with --recompute for latents; files layout: so that seeds are made anew and missing files found',
    )
    .option('--base-seed <seed>', 'files layout: what the seeds were made with; 42 when left out', parseInteger)
    .option('--name-version <text>', "files layout: version in the files' names; 1 when left out")
    .option('--serve', 'serves a page to this machine that verifies caches in the browser: PATH, if given, or any')
    .action(
      async (
        path: string | undefined,
        { backend, recompute: entries, model: models, nonce, device, serve, ...named }: VerifyOptions,
      ) => {
        const { images: folder, baseSeed, nameVersion: version } = named;
        if (serve === true) return serveVerifyPage(path, command, context);
        if (path === undefined) {
          throw inputError('ERR_USAGE', "missing required argument 'path'", { remedy: "Name the cache's folder." });
        }
        const { verifyCache } = await import('../cache/index.ts');
        const images = folder === undefined ? undefined : { folder, baseSeed, version };
        const recompute = recomputation({ entries, models, nonce, device });
        const { progress, signal } = context;
        const { report } = await verifyCache(path, { backend, images, recompute, device, progress, signal });
        context.result(report, () => formatReport(path, report));
        if (report.verdict !== 'ok') context.failCheck();
      },
    );
}

/** The options of a recomputation, of which one alone says nothing. */
interface RecomputationWords extends Omit<RecomputeOptions, 'entries'> {
  readonly entries: number | undefined;
  readonly device: DeviceName | undefined;
}

/** The options of a recomputation belong together. */
function recomputation({ entries, models, nonce, device }: RecomputationWords): RecomputeOptions | undefined {
  const refuse = (where: string, what: string, remedy: string): never => {
    throw inputError('ERR_USAGE', what, { where, remedy });
  };
  if (entries !== undefined) {
    if (models.length > 0) return { entries, models, nonce };
    refuse('--recompute', 'there is nothing to compute with', 'Give the models that the cache was made with: --model.');
  }
  if (models.length > 0) refuse('--model', 'nothing is computed', 'Say how many entries: --recompute N.');
  if (device !== undefined) refuse('--device', 'nothing is computed', 'Give --recompute N and --model PATH as well.');
  if (nonce !== undefined) refuse('--nonce', 'nothing is drawn', 'Give --recompute N and --model PATH as well.');
  return undefined;
}
