import type { Command } from 'commander';
import { inputError } from '../errors.ts';
import type { Context } from './command.ts';
import { modelFolder } from './model-folder.ts';
import { requireFile, requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';

interface VaeOptions {
  readonly model: string;
  readonly encode?: string;
  readonly decode?: string;
  readonly out: string;
}

/** `potstill probe vae` */
export function configureVae(command: Command, context: Context): void {
  command
    .description(
      'With --encode, writes latents (mean times scaling factor) of a picture; with --decode, decoded [1,3,H,W] before clamping of the tensor latents (scaled).',
    )
    .requiredOption('--model <folder>', "a diffusers model's folder")
    .option('--encode <image>', 'a PNG, JPEG or WebP picture whose sides are multiples of 8')
    .option('--decode <file>', 'a safetensors file with a tensor latents')
    .requiredOption('--out <file>', 'safetensors file to write')
    .action(async ({ model, encode, decode, out }: VaeOptions) => {
      const input = encode ?? decode;
      if (input === undefined || (encode !== undefined && decode !== undefined)) {
        throw inputError('ERR_USAGE', 'probe vae takes either --encode or --decode', { remedy: 'Give exactly one.' });
      }
      const folder = await modelFolder(model, ['vae']);
      await requireFile(input, encode === undefined ? '--decode' : '--encode');
      await requireOutFile(out);
      const { loadEngine } = await import('../native/index.ts');
      const { decodeLatents, encodePicture } = await import('../probe/vae.ts');
      const probe = encode === undefined ? decodeLatents : encodePicture;
      await writeProbe(out, await probe(await loadEngine(), folder, input), context);
    });
}
