import type { Command } from 'commander';
import type { Context } from './command.ts';
import { addOutputOptions, type LoraOutput } from './lora-format.ts';
import { parseFinite } from './parse.ts';

interface ScaleOptions extends LoraOutput {
  readonly unet: number;
  readonly text: number;
}

/** `potstill lora scale PATH --unet X --out PATH` */
export function configureScale(command: Command, context: Context): void {
  addOutputOptions(command)
    .argument('<path>', "a .safetensors file, or a peft adapter's folder")
    .description(
      'Makes an adapter as strong as the factors say, in comparison with what it was as made: the factors are noted in the\n' +
        'file, so that scaling the result by the same factors changes nothing, and factors of 1 take them back.',
    )
    .option('--unet <factor>', "of the UNet's layers", parseFinite, 1)
    .option('--text <factor>', "of the text encoders' layers", parseFinite, 1)
    .action(async (path: string, { out, unet, text, ...format }: ScaleOptions) => {
      const { scaleAdapter } = await import('../adapter/index.ts');
      const files = await scaleAdapter(path, out, { unet, text }, format);
      context.result({ out, files, unet, text }, () => files.join('\n'));
    });
}
