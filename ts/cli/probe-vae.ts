import type { Command } from 'commander';
import { inputError } from '../errors.ts';
import type { Context } from './command.ts';
import { writeProbe } from './probe-output.ts';
import { modelFolder } from './sampling-options.ts';

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
      const folder = await modelFolder(model);
      const { loadEngine } = await import('../native/index.ts');
      const { decodeLatents, encodePicture } = await import('../probe/vae.ts');
      if (encode !== undefined && decode === undefined) {
        return writeProbe(out, await encodePicture(await loadEngine(), folder, encode), context);
      }
      if (decode !== undefined && encode === undefined) {
        return writeProbe(out, await decodeLatents(await loadEngine(), folder, decode), context);
      }
      throw inputError('ERR_USAGE', 'probe vae takes either --encode or --decode', { remedy: 'Give exactly one.' });
    });
}
