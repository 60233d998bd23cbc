import type { Command } from 'commander';
import type { DeviceName } from '../device.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { modelFolder } from './model-folder.ts';
import { requireAdapters, requireFile, requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';
import { addSamplingOptions, type SamplingOptions, samplingSettings } from './sampling-options.ts';

interface ProbeSampleOptions extends SamplingOptions {
  readonly model: string;
  readonly prompt: string;
  readonly latents: string;
  readonly device: DeviceName;
  readonly out: string;
}

/** `potstill probe sample` */
export function configureSample(command: Command, context: Context): void {
  command
    .description(
      'Writes the latents that the tensor latents of a file (unit noise) is stepped to. The stochastic samplers take their ' +
        "fresh noise from the file's tensor step_noise [S,4,h,w] or [S,B,4,h,w], or draw it. With flow-euler, predictions are taken as flow.",
    )
    .requiredOption('--model <path>', 'a single file or a diffusers folder')
    .requiredOption('--prompt <text>', 'what to show')
    .addOption(deviceOption())
    .requiredOption('--latents <file>', 'safetensors file with unit noise [B,4,h,w] as latents')
    .requiredOption('--out <file>', 'safetensors file to write');
  addSamplingOptions(command, { promptSyntax: 'plain' }).action(async (options: ProbeSampleOptions) => {
    const settings = samplingSettings(options);
    const folder = await modelFolder(options.model, ['unet', 'tokenizer', 'text_encoder']);
    await requireFile(options.latents, '--latents');
    await requireAdapters(options.lora, '--lora');
    await requireOutFile(options.out);
    const { probeSample } = await import('../probe/sample.ts');
    const { prompt, steps } = options;
    using task = context.progress.start('sampling', { total: steps, unit: 'steps' });
    const latents = await probeSample(await openEngine(options, context), folder, options.latents, {
      ...{ ...settings, prompt },
      signal: context.signal,
      onStep: (done) => task.set(done),
    });
    task.end();
    await writeProbe(options.out, { latents }, context);
  });
}
