import { inputError } from '../../errors.ts';
import { parseDocument } from '../document.ts';
import { readRecipe } from '../load.ts';
import {
  type BuilderConfig,
  builderConfig,
  kindOf,
  type TrainingConfig,
  trainingConfig,
  unknownKeys,
} from './configs.ts';
import { type OneTrainerConfig, onetrainerConfig, SILENT } from './onetrainer-config.ts';
import { parse } from './parse.ts';

/** A config as it was read. */
export type ReadConfig = {
  readonly file: string;
  /** Whether a list ended in `...`, as lists in examples do: what it stands for is not known. */
  readonly abridged: boolean;
  /** Keys that say nothing to a recipe. */
  readonly unknown: readonly string[];
} & (
  | { readonly kind: 'builder'; readonly config: BuilderConfig }
  | { readonly kind: 'training'; readonly config: TrainingConfig }
  | { readonly kind: 'onetrainer'; readonly config: OneTrainerConfig }
);

/** An ellipsis at the end of a list. */
const ELLIPSIS = /,?\s*\.\.\.\s*(?=\])/g;

/**
 * Reads a config.
 *
 * @throws PotstillError when it cannot be read, is not JSON, or is none that is known
 */
export async function readConfig(file: string): Promise<ReadConfig> {
  const text = await readRecipe(file);
  // Blanks of the same length, so that places in messages stay what they are.
  const whole = text.replace(ELLIPSIS, (found) => found.replace(/[^\n]/g, ' '));
  const document = parseDocument(file, whole);
  const kind = kindOf(document.value);
  if (kind === undefined) {
    throw inputError('ERR_IMPORT_UNKNOWN', 'is no config that can be imported', {
      where: file,
      remedy:
        'Name the config of a teacher\'s cache (with "teacher" and "data"), of a training (with "student" and "teachers"), or ' +
        'of OneTrainer (with "training_method" or "model_type").',
    });
  }
  const rest = { file, abridged: whole !== text };
  if (kind === 'builder') {
    const config = parse(document, builderConfig.safeParse(document.value));
    return { ...rest, kind, config, unknown: unknownKeys(document.value, builderConfig) };
  }
  if (kind === 'onetrainer') {
    const config = parse(document, onetrainerConfig.safeParse(document.value));
    const unknown = unknownKeys(document.value, onetrainerConfig).filter((path) => speaks(document.value, path));
    return { ...rest, kind, config, unknown };
  }
  const config = parse(document, trainingConfig.safeParse(document.value));
  return { ...rest, kind, config, unknown: unknownKeys(document.value, trainingConfig) };
}

/** Whether a OneTrainer config's key says something of the training: it writes all of its settings, most of them off. */
function speaks(config: unknown, path: string): boolean {
  const [section = '', ...rest] = path.split('.');
  if (SILENT.has(section) || path.includes('[')) return false;
  const value = [section, ...rest].reduce<unknown>((at, key) => (at as Readonly<Record<string, unknown>>)[key], config);
  const isEmpty = typeof value === 'object' && (value === null || Object.keys(value).length === 0);
  return !isEmpty && value !== false && value !== '' && value !== 0;
}
