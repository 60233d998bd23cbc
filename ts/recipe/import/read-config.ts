import { inputError } from '../../errors.ts';
import { parseDocument, type RecipeDocument } from '../document.ts';
import { readRecipe } from '../load.ts';
import {
  type BuilderConfig,
  builderConfig,
  kindOf,
  type TrainingConfig,
  trainingConfig,
  unknownKeys,
} from './configs.ts';

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
);

/** An ellipsis at the end of a list. */
const ELLIPSIS = /,?\s*\.\.\.\s*(?=\])/g;

/**
 * Reads one of the two configs.
 *
 * @throws PotstillError when it cannot be read, is not JSON, or is neither of the two
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
        'Name the config of a teacher\'s cache (with "teacher" and "data") or of a training (with "student" and "teachers").',
    });
  }
  const rest = { file, abridged: whole !== text };
  if (kind === 'builder') {
    const config = parse(document, builderConfig.safeParse(document.value));
    return { ...rest, kind, config, unknown: unknownKeys(document.value, builderConfig) };
  }
  const config = parse(document, trainingConfig.safeParse(document.value));
  return { ...rest, kind, config, unknown: unknownKeys(document.value, trainingConfig) };
}

type Parsed<T> =
  | { readonly success: true; readonly data: T }
  | {
      readonly success: false;
      readonly error: { readonly issues: readonly { readonly path: PropertyKey[]; readonly message: string }[] };
    };

function parse<T>(document: RecipeDocument, parsed: Parsed<T>): T {
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue?.path ?? [];
  const { line, column } = document.place(path);
  throw inputError('ERR_IMPORT_VALUE', `${path.map(String).join('.')}: ${issue?.message ?? 'is not usable'}`, {
    where: `${document.file}:${line}:${column}`,
    remedy: 'Mend the value there, and import the config again.',
  });
}
