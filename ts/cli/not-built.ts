import { inputError, type PotstillError } from '../errors.ts';

/**
 * For a part of a command that is designed but not built, such as `--lora`: exit code 2, by name.
 *
 * @param name as the user typed it: `potstill lora merge`, `--dtype f16`
 */
export function notBuilt(name: string): PotstillError {
  return inputError('ERR_NOT_BUILT', `${name} is not built yet`, {
    remedy: 'See the table of commands in the README for what works in this version.',
  });
}
