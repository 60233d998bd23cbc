import type { Command } from 'commander';
import type { DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { modelFolder, vaeFolder } from './model-folder.ts';
import { requireFile, requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';

interface VaeOptions {
  readonly model: string;
  readonly vae?: string;
  readonly encode?: string;
  readonly decode?: string;
  readonly device: DeviceName;
  readonly out: string;
}

/** `potstill probe vae` */
export function configureVae(command: Command, context: Context): void {
  command
    .description(
      'With --encode, writes latents (mean times scaling factor) of a picture; with --decode, decoded [1,3,H,W] before clamping of the tensor latents (scaled).',
    )
    .requiredOption('--model <path>', 'a single file or a diffusers folder')
    .option('--vae <path>', "a VAE in place of the model's: a file or a folder that has one")
    .option('--encode <image>', 'a PNG, JPEG or WebP picture whose sides are multiples of 8')
    .option('--decode <file>', 'a safetensors file with a tensor latents')
    .addOption(deviceOption())
    .requiredOption('--out <file>', 'safetensors file to write')
    .action(async ({ model, vae, encode, decode, device, out }: VaeOptions) => {
      const input = encode ?? decode;
      if (input === undefined || (encode !== undefined && decode !== undefined)) {
        throw inputError('ERR_USAGE', 'probe vae takes either --encode or --decode', { remedy: 'Give exactly one.' });
      }
      const folder = await modelFolder(model, vae === undefined ? ['vae'] : []);
      const other = vae === undefined ? undefined : await vaeFolder(vae);
      await requireFile(input, encode === undefined ? '--decode' : '--encode');
      await requireOutFile(out);
      const { decodeLatents, encodePicture } = await import('../probe/vae.ts');
      const probe = encode === undefined ? decodeLatents : encodePicture;
      await writeProbe(out, await probe(await openEngine({ device }, context), folder, input, other), context);
    });
}
