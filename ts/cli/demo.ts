import type { Command } from 'commander';
import type { DemoResult } from '../demo/index.ts';
import type { DeviceName } from '../device.ts';
import type { Context } from './command.ts';
import { recipeDeviceOption, withDevice } from './device.ts';
import { formatSeconds } from './format.ts';
import { parseCount } from './parse.ts';
import { requireOutFolder } from './paths.ts';
import { setOption } from './set-option.ts';

interface DemoArguments {
  readonly out: string;
  readonly long?: boolean;
  readonly prompts?: number;
  readonly device?: DeviceName;
  readonly set: readonly string[];
}

/** `potstill demo`: the whole pipeline on small models and real pictures. */
export function configure(command: Command, context: Context): void {
  command
    .option('--out <folder>', 'where everything goes; an earlier demo there is replaced', 'runs/demo')
    .option('--long', 'the longer recipe of the same method: about ten minutes instead of two')
    .option('--prompts <n>', 'prompts of either kind that the distance is measured over (default: 16)', parseCount)
    .addOption(recipeDeviceOption())
    .addOption(setOption())
    .action(async ({ out, long = false, prompts, device, set }: DemoArguments) => {
      await requireOutFolder(out);
      const { runDemo } = await import('../demo/index.ts');
      const { progress, signal } = context;
      const result = await runDemo({
        out,
        long,
        set: withDevice(set, device),
        ...(prompts === undefined ? {} : { prompts }),
        progress,
        signal,
      });
      context.result(result, () => describe(result));
    });
}

function describe({ report, distance, verification, stages }: DemoResult): string {
  const caught = verification.filter(({ expected, findings }) => expected === 'damage' && findings.length > 0);
  const damaged = verification.filter(({ expected }) => expected === 'damage');
  const figure = (value: number | null): string => value?.toFixed(3) ?? 'not measured';
  return [
    `distance to the guided teachers: ${figure(distance.all)} (undistilled: 1.000)`,
    `  prompts trained on ${figure(distance.trained)}, held out ${figure(distance.heldOut)}`,
    `damaged copies caught: ${caught.length} of ${damaged.length}, native and WASM reports equal`,
    ...stages.map(({ name, seconds }) => `${formatSeconds(seconds).padStart(8)}  ${name}`),
    '',
    `Open ${report}`,
  ].join('\n');
}
