import { inputError } from '../../errors.ts';
import type { RecipeDocument } from '../document.ts';

type Parsed<T> =
  | { readonly success: true; readonly data: T }
  | {
      readonly success: false;
      readonly error: { readonly issues: readonly { readonly path: PropertyKey[]; readonly message: string }[] };
    };

/**
 * What a schema made of a document.
 *
 * @throws PotstillError `ERR_IMPORT_VALUE` with the place of the first value that it refuses
 */
export function parse<T>(document: RecipeDocument, parsed: Parsed<T>): T {
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue?.path ?? [];
  const { line, column } = document.place(path);
  throw inputError('ERR_IMPORT_VALUE', `${path.map(String).join('.')}: ${issue?.message ?? 'is not usable'}`, {
    where: `${document.file}:${line}:${column}`,
    remedy: 'Mend the value there, and import the config again.',
  });
}
