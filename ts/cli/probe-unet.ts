import { type Command, Option } from 'commander';
import type { DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import type { Precision, QuantFormat, WeightedAdapter } from '../native/index.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { dtypeOption, noteEmulation } from './dtype-option.ts';
import { modelFolder } from './model-folder.ts';
import { parseAdapter } from './parse.ts';
import { requireAdapters, requireFile, requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';

interface UnetOptions {
  readonly model: string;
  readonly in: string;
  readonly out: string;
  readonly backward?: boolean;
  readonly recompute?: boolean;
  readonly lora?: WeightedAdapter;
  readonly quantize?: QuantFormat;
  readonly dtype: Precision;
  readonly device: DeviceName;
}

/** `potstill probe unet` */
export function configureUnet(command: Command, context: Context): void {
  command
    .description(
      'Predicts from sample [B,4,h,w], timestep [B], encoder_hidden_states [B,77,d] (SDXL: text_embeds, time_ids) and writes prediction; with --backward, from target too, loss and grad.NAME of every parameter, or of the LoRA.',
    )
    .requiredOption('--model <path>', 'a single file or a diffusers folder')
    .requiredOption('--in <file>', 'safetensors file with the inputs')
    .requiredOption('--out <file>', 'safetensors file to write')
    .option('--backward', 'mean squared error against target, and its gradients')
    .option('--recompute', 'with --backward: keep no activations; the gradients are the same')
    .addOption(deviceOption())
    .option(
      '--lora <file:weight>',
      'an adapter on it; --backward then gives the gradients of its parameters',
      parseAdapter,
    )
    .addOption(
      new Option(
        '--quantize <format>',
        'keep the matrices of linear layers in codes: as `model quantize` writes them',
      ).choices(['nf4', 'int8', 'fp8']),
    )
    .addOption(dtypeOption())
    .action(async (options: UnetOptions) => {
      const { backward = false, recompute = false, lora: adapter, dtype, quantize } = options;
      if (quantize !== undefined && dtype !== 'f32') {
        throw inputError('ERR_USAGE', 'codes are decoded to f32, and bf16 is asked for', {
          where: '--quantize',
          remedy: 'Leave out --dtype or --quantize.',
        });
      }
      if (dtype === 'bf16' && backward && adapter === undefined) {
        throw inputError('ERR_USAGE', 'weights in bf16 are frozen and have no gradients', {
          where: '--dtype bf16',
          remedy: 'Give a --lora, whose gradients are taken then, or --dtype f32.',
        });
      }
      const folder = await modelFolder(options.model, ['unet']);
      await requireFile(options.in, '--in');
      await requireAdapters(options.lora === undefined ? [] : [options.lora], '--lora');
      await requireOutFile(options.out);
      const { probeUnet } = await import('../probe/unet.ts');
      const engine = await openEngine(options, context);
      noteEmulation(engine, dtype, context.progress);
      const { tensors, loss } = await probeUnet(engine, folder, options.in, {
        ...{ backward, recompute, adapter, dtype: quantize ?? dtype },
      });
      await writeProbe(options.out, tensors, context, loss === undefined ? {} : { loss });
    });
}
