import { type Command, Option } from 'commander';
import type { Context } from './command.ts';
import { modelFolder } from './model-folder.ts';
import { requireFile, requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';
import { addSamplingOptions, builtSampler, type SamplingOptions } from './sampling-options.ts';

interface ProbeSampleOptions extends SamplingOptions {
  readonly model: string;
  readonly prompt: string;
  readonly negative: string;
  readonly uncond: 'encode' | 'zeros';
  readonly latents: string;
  readonly out: string;
}

/** `potstill probe sample` */
export function configureSample(command: Command, context: Context): void {
  command
    .description('Writes the latents that the tensor latents of a file (unit noise) is stepped to.')
    .requiredOption('--model <folder>', "a diffusers model's folder")
    .requiredOption('--prompt <text>', 'what to show')
    .option('--negative <text>', 'what guidance leads away from', '')
    .addOption(
      new Option('--uncond <kind>', 'an empty negative prompt encoded, or zeros in its place')
        .choices(['encode', 'zeros'])
        .default('encode'),
    )
    .requiredOption('--latents <file>', 'safetensors file with unit noise [B,4,h,w] as latents')
    .requiredOption('--out <file>', 'safetensors file to write');
  addSamplingOptions(command).action(async (options: ProbeSampleOptions) => {
    const { kind, spacing } = builtSampler(options);
    const folder = await modelFolder(options.model, ['unet', 'tokenizer', 'text_encoder']);
    await requireFile(options.latents, '--latents');
    await requireOutFile(options.out);
    const { loadEngine } = await import('../native/index.ts');
    const { probeSample } = await import('../probe/sample.ts');
    const { prompt, negative, uncond, steps, guidance } = options;
    using task = context.progress.start('sampling', { total: steps, unit: 'steps' });
    const latents = await probeSample(await loadEngine(), folder, options.latents, {
      ...{ prompt, negative, uncond, steps, guidance, sampler: kind, spacing },
      signal: context.signal,
      onStep: (done) => task.set(done),
    });
    task.end();
    await writeProbe(options.out, { latents }, context);
  });
}
