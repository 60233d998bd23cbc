import { Option } from 'commander';

/** `--set key=value`, as often as one likes: for every command that takes a recipe. */
export function setOption(): Option {
  return new Option('--set <key=value>', 'override a value of the recipe: training.batch=4 (may be repeated)')
    .argParser((value: string, previous: string[] | undefined) => [...(previous ?? []), value])
    .default([], 'none');
}
