import type { Command } from 'commander';
import type { StepParts } from '../bench/index.ts';
import type { DeviceName } from '../device.ts';
import { describeMeasurement, time } from './bench-output.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { parseCount } from './parse.ts';

interface StepOptions {
  readonly iterations: number;
  readonly threads?: number;
  readonly device: DeviceName;
}

/** `potstill bench step` */
export function configureStep(command: Command, context: Context): void {
  command
    .description(
      "Times a training step of the demo's model (8 pictures of 128x128, all weights, batches from a cache on disk), and what\n" +
        'the loop alone costs when model, optimizer and average cost nothing.',
    )
    .option('--iterations <n>', 'how many steps, after 3 that do not count', parseCount, 20)
    .option('--threads <n>', 'threads to compute with (default: all)', parseCount)
    .addOption(deviceOption())
    .action(async ({ iterations, threads, device }: StepOptions) => {
      const [{ StepBenchmark }, { demoFolder }] = await Promise.all([
        import('../bench/index.ts'),
        import('../demo/assets.ts'),
      ]);
      const { signal, progress } = context;
      const engine = await openEngine({ device, threads }, context);
      const bench = await StepBenchmark.create(engine, demoFolder(), { signal, progress });
      try {
        const result = await bench.measure(iterations, signal);
        const { loop, step } = result;
        context.result(result, () =>
          [
            describeMeasurement('step', step),
            ...describeParts(step.parts),
            describeMeasurement('loop alone', loop),
          ].join('\n'),
        );
      } finally {
        await bench.dispose();
      }
    });
}

function describeParts(parts: StepParts): string[] {
  return Object.entries(parts).map(([name, seconds]) => `${time(seconds).padStart(10)}  ${name}`);
}
