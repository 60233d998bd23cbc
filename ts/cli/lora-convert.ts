import { type Command, Option } from 'commander';
import type { Context } from './command.ts';
import { addOutputOptions, type LoraOutput } from './lora-format.ts';

/** `potstill lora convert PATH --out PATH` */
export function configureConvert(command: Command, context: Context): void {
  addOutputOptions(command)
    .argument('<path>', "a .safetensors file, or a peft adapter's folder")
    .description(
      'Writes an adapter in another dialect or dtype. kohya is what ComfyUI, A1111, kohya and diffusers all read; peft makes\n' +
        'a folder. Alpha is always written, where the dialect keeps it.',
    )
    .addOption(
      new Option('--prediction <type>', 'what the model predicts with it, where the adapter changes that').choices([
        'epsilon',
        'v',
        'x0',
        'flow',
      ]),
    )
    .action(async (path: string, { out, ...format }: LoraOutput) => {
      const { convertAdapter } = await import('../adapter/index.ts');
      const files = await convertAdapter(path, out, format);
      context.result({ out, files }, () => files.join('\n'));
    });
}
