import { type Command, Option } from 'commander';
import type { DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import { describeValidation } from '../train/describe-validation.ts';
import type { TrainResult } from '../train/train.ts';
import type { ValidateResult } from '../train/validate.ts';
import type { Context } from './command.ts';
import { recipeDeviceOption, withDevice } from './device.ts';
import { formatSeconds } from './format.ts';
import { setOption } from './set-option.ts';

interface TrainOptions {
  readonly resume?: boolean;
  readonly validate?: boolean;
  readonly student?: string;
  readonly device?: DeviceName;
  readonly set: readonly string[];
}

/** `potstill train RECIPE`: builds what is missing of the cache, verifies it, trains. */
export function configure(command: Command, context: Context): void {
  command
    .argument('<recipe>', 'a recipe')
    .addHelpText('after', '\nIn a terminal: s draws samples now, w writes a checkpoint and the student as it is.')
    .option('--resume', "go on from the newest checkpoint in the run's folder")
    .addOption(new Option('--validate', 'train nothing: measure the student on the held-out data').conflicts('resume'))
    .option(
      '--student <path>',
      "with --validate: measure this model, UNet, adapter or folder of adapters, such as a run's student",
    )
    .addOption(recipeDeviceOption())
    .addOption(setOption())
    .action(async (file: string, { resume = false, validate = false, student, device, set }: TrainOptions) => {
      const { loadRecipe } = await import('../recipe/index.ts');
      const { recipe } = await loadRecipe(file, { set: withDevice(set, device) });
      const { progress, signal } = context;
      if (validate) {
        const measure = await import('../train/validate.ts');
        const measured = await measure.validate(recipe, { student, progress, signal });
        context.result(measured, () => describeMeasured(measured));
        return;
      }
      if (student !== undefined) {
        throw inputError('ERR_USAGE', '--student is for --validate', {
          where: `--student ${student}`,
          remedy: 'To train from another model, give --set student.model=FOLDER.',
        });
      }
      const [{ train }, { RunRequests }] = await Promise.all([
        import('../train/train.ts'),
        import('../train/requests.ts'),
      ]);
      const requests = new RunRequests();
      const stop = context.keys((key) => {
        if (key === 's') requests.sample();
        if (key === 'w') requests.save();
      });
      try {
        const result = await train(recipe, { resume, progress, signal, requests });
        context.result(result, () => describe(result));
      } finally {
        stop();
      }
    });
}

/** Significant digits of what methods log. */
const SHOWN_DIGITS = 4;

function describe({ folder, student, step, loss, seconds, validation, figures }: TrainResult): string {
  const lines = [`${folder}: ${step} steps in ${formatSeconds(seconds)}`];
  if (loss !== undefined) lines.push(`loss ${loss}`);
  for (const [name, value] of Object.entries(figures))
    lines.push(`${name} ${value.toPrecision(SHOWN_DIGITS)} on average`);
  if (validation !== undefined) lines.push(`validation loss ${validation.loss}`);
  lines.push(`student: ${student}`);
  return lines.join('\n');
}

function describeMeasured({ student, samples, draws, sets = {}, ...figures }: ValidateResult): string {
  return [
    `${student}: ${describeValidation(figures)} (${samples} samples, ${draws} draws each)`,
    ...Object.entries(sets).map(([name, those]) => `  ${name}: ${describeValidation(those)}`),
  ].join('\n');
}
