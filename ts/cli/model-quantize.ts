import { stat } from 'node:fs/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { QuantizedComponent } from '../model/convert.ts';
import type { WeightedAdapter } from '../native/index.ts';
import type { Context } from './command.ts';
import { formatBytes } from './format.ts';
import { collect, parseAdapter } from './parse.ts';
import { requireAdapters } from './paths.ts';

const COMPONENTS = ['unet', 'text_encoder', 'text_encoder_2'] as const;
type Component = (typeof COMPONENTS)[number];

interface QuantizeOptions {
  readonly format: 'nf4' | 'int8' | 'fp8';
  readonly out: string;
  readonly components: readonly Component[];
  readonly dtype?: 'f32' | 'f16' | 'bf16';
  readonly title?: string;
  readonly allow: readonly string[];
  readonly lora: readonly WeightedAdapter[];
}

/** `potstill model quantize PATH --format FORMAT --out PATH` */
export function configureQuantize(command: Command, context: Context): void {
  command
    .argument('<path>', 'a single file or a diffusers folder')
    .description(
      'Writes a checkpoint whose matrices take fewer bits, with what that does to them. nf4 and int8 are kept as bitsandbytes has them,\n' +
        'in a diffusers folder; fp8 with a scale for each matrix as ComfyUI reads it, in a single file. Convolutions, norms and\n' +
        'biases stay. Such weights are read at every use, frozen, by every command that takes a model.',
    )
    .addOption(
      new Option('--format <name>', 'nf4 (4 bits), int8, or fp8 (e4m3)')
        .choices(['nf4', 'int8', 'fp8'])
        .makeOptionMandatory(),
    )
    .requiredOption('--out <path>', 'where to write; nothing may be there yet')
    .option('--components <list>', `of which components: ${COMPONENTS.join(', ')}`, parseComponents, ['unet'] as const)
    .addOption(
      new Option('--dtype <name>', "of what is not quantized (default: each tensor's own)").choices([
        'f32',
        'f16',
        'bf16',
      ]),
    )
    .option(
      '--lora <file:weight>',
      'an adapter to lay into the weights first, 1 where no weight is given; several may be given',
      (text: string, previous: readonly WeightedAdapter[]) => [...previous, parseAdapter(text)],
      [],
    )
    .option('--title <text>', "the title in a file's metadata")
    .option(
      '--allow <key>',
      "an unexpected key, or a tokenizer that isn't CLIP's, to leave out; a final * stands for the rest",
      collect,
      [],
    )
    .action(async (path: string, options: QuantizeOptions) => {
      const { format, out, components, dtype, title, allow, lora: adapters } = options;
      const { convertModel } = await import('../model/convert.ts');
      const { progress, signal } = context;
      await requireAdapters(adapters, '--lora');
      const layout = format === 'fp8' ? 'file' : 'folder';
      const converted = await convertModel(path, out, {
        ...{ layout, dtype, title, allow, adapters, progress, signal },
        quantize: { format, components },
      });
      const files = await Promise.all(
        converted.files.map(async (file) => ({ path: file, bytes: (await stat(file)).size })),
      );
      context.result({ out, format, layout, ...converted, files }, () =>
        [
          ...files.map((file) => file.path),
          ...converted.quantized.flatMap(formatQuantized),
          ...converted.leftOut.map((key) => `left out: ${key}`),
        ].join('\n'),
      );
    });
}

function parseComponents(text: string): readonly Component[] {
  const names = [...new Set(text.split(',').map((name) => name.trim()))];
  const known = names.filter((name): name is Component => COMPONENTS.some((component) => component === name));
  if (known.length === names.length) return known;
  throw new InvalidArgumentError(`They are ${COMPONENTS.join(', ')}, separated by commas.`);
}

function formatQuantized(part: QuantizedComponent): string[] {
  const bits = (8 * part.bytes) / part.parameters;
  return [
    `${part.component}: ${part.tensors} matrices, ${part.parameters.toLocaleString('en')} parameters in ` +
      `${formatBytes(part.bytes)} (${bits.toFixed(2)} bits each)`,
    `  relative error ${share(part.error)}; largest ${share(part.worstError)}, of ${part.worst}`,
  ];
}

function share(value: number): string {
  return `${(100 * value).toPrecision(3)} %`;
}
