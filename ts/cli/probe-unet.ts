import { type Command, Option } from 'commander';
import type { WeightedAdapter } from '../native/index.ts';
import type { Context } from './command.ts';
import { modelFolder } from './model-folder.ts';
import { notBuilt } from './not-built.ts';
import { parseAdapter } from './parse.ts';
import { requireAdapters, requireFile, requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';
import { requireBuiltDevice } from './sampling-options.ts';

interface UnetOptions {
  readonly model: string;
  readonly in: string;
  readonly out: string;
  readonly backward?: boolean;
  readonly recompute?: boolean;
  readonly lora?: WeightedAdapter;
  readonly quantize?: string;
  readonly dtype?: string;
  readonly device?: string;
}

/** `potstill probe unet` */
export function configureUnet(command: Command, context: Context): void {
  command
    .description(
      'Predicts from sample [B,4,h,w], timestep [B], encoder_hidden_states [B,77,d] (SDXL: text_embeds, time_ids) and writes prediction; with --backward, from target too, loss and grad.NAME of every parameter, or of the LoRA.',
    )
    .requiredOption('--model <folder>', "a diffusers model's folder")
    .requiredOption('--in <file>', 'safetensors file with the inputs')
    .requiredOption('--out <file>', 'safetensors file to write')
    .option('--backward', 'mean squared error against target, and its gradients')
    .option('--recompute', 'with --backward: keep no activations; the gradients are the same')
    .option(
      '--lora <file:weight>',
      'an adapter on it; --backward then gives the gradients of its parameters',
      parseAdapter,
    )
    .addOption(new Option('--quantize <type>').hideHelp())
    .addOption(new Option('--dtype <type>').hideHelp())
    .addOption(new Option('--device <name>').hideHelp())
    .action(async (options: UnetOptions) => {
      if (options.quantize !== undefined) throw notBuilt('--quantize');
      requireBuiltDevice(options);
      const folder = await modelFolder(options.model, ['unet']);
      await requireFile(options.in, '--in');
      await requireAdapters(options.lora === undefined ? [] : [options.lora], '--lora');
      await requireOutFile(options.out);
      const { loadEngine } = await import('../native/index.ts');
      const { probeUnet } = await import('../probe/unet.ts');
      const engine = await loadEngine();
      const { backward = false, recompute = false, lora: adapter } = options;
      const { tensors, loss } = await probeUnet(engine, folder, options.in, { backward, recompute, adapter });
      await writeProbe(options.out, tensors, context, loss === undefined ? {} : { loss });
    });
}
