import type { Command } from 'commander';
import type { Context } from './command.ts';
import { modelFolder } from './model-folder.ts';
import { parseNatural } from './parse.ts';
import { requireAdapters, requireFile, requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';
import { addSamplingOptions, type SamplingOptions, samplingSettings } from './sampling-options.ts';

interface ProbeSampleOptions extends SamplingOptions {
  readonly model: string;
  readonly prompt: string;
  readonly negative: string;
  readonly clipSkip: number;
  readonly latents: string;
  readonly out: string;
}

/** `potstill probe sample` */
export function configureSample(command: Command, context: Context): void {
  command
    .description(
      'Writes the latents that the tensor latents of a file (unit noise) is stepped to. The stochastic samplers take their ' +
        "fresh noise from the file's tensor step_noise [S,4,h,w] or [S,B,4,h,w], or draw it. With flow-euler, predictions are taken as flow.",
    )
    .requiredOption('--model <folder>', "a diffusers model's folder")
    .requiredOption('--prompt <text>', 'what to show')
    .option('--negative <text>', 'what guidance leads away from', '')
    .option('--clip-skip <n>', 'layers of the text encoder to leave out', parseNatural, 0)
    .requiredOption('--latents <file>', 'safetensors file with unit noise [B,4,h,w] as latents')
    .requiredOption('--out <file>', 'safetensors file to write');
  addSamplingOptions(command, { promptSyntax: 'plain' }).action(async (options: ProbeSampleOptions) => {
    const settings = samplingSettings(options);
    const folder = await modelFolder(options.model, ['unet', 'tokenizer', 'text_encoder']);
    await requireFile(options.latents, '--latents');
    await requireAdapters(options.lora, '--lora');
    await requireOutFile(options.out);
    const { loadEngine } = await import('../native/index.ts');
    const { probeSample } = await import('../probe/sample.ts');
    const { prompt, negative, clipSkip, steps } = options;
    using task = context.progress.start('sampling', { total: steps, unit: 'steps' });
    const latents = await probeSample(await loadEngine(), folder, options.latents, {
      ...{ ...settings, prompt, negative, clipSkip },
      signal: context.signal,
      onStep: (done) => task.set(done),
    });
    task.end();
    await writeProbe(options.out, { latents }, context);
  });
}
