import { inputError } from '../errors.ts';
import { type JsonSchema, schemasAt } from './json-schema.ts';

/** One `--set key=value`. */
export interface Override {
  /** As it was typed, for messages: `--set training.batch=4`. */
  readonly text: string;
  readonly path: readonly (string | number)[];
  readonly value: unknown;
}

/**
 * Reads `training.optimizer.lr=1e-5` or `teachers[0].weight=0.3` (`teachers.0.weight` is the same). The schema decides what the value is: where only a
 * string may stand, `42` is a string; elsewhere it is JSON, and a string where it is not.
 *
 * @throws PotstillError `ERR_USAGE` when there is no `=` or no key before it
 */
export function parseOverride(schema: JsonSchema, text: string): Override {
  const equals = text.indexOf('=');
  const steps =
    equals < 0
      ? []
      : text
          .slice(0, equals)
          .replace(/\[(\d+)\]/g, '.$1')
          .split('.');
  if (steps.length === 0 || steps.includes('')) {
    throw inputError('ERR_USAGE', 'an override is key=value', {
      where: `--set ${text}`,
      remedy: 'For example: --set training.optimizer.lr=1e-5',
    });
  }
  const path = steps.map((step) => (/^\d+$/.test(step) ? Number(step) : step));
  return { text: `--set ${text}`, path, value: parseValue(schemasAt(schema, path), text.slice(equals + 1)) };
}

function parseValue(schemas: readonly JsonSchema[], text: string): unknown {
  const types = schemas.flatMap(({ type }) => type ?? []);
  if (types.length > 0 && types.every((type) => type === 'string')) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * The value with the override in it; the value itself is left alone. Objects on the way are made where there are none.
 *
 * @throws PotstillError `ERR_USAGE` when a list has no such entry
 */
export function applyOverride(value: unknown, override: Override): unknown {
  return replace(value, override.path, override);
}

function replace(value: unknown, path: readonly (string | number)[], override: Override): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return override.value;
  if (Array.isArray(value)) {
    if (typeof step !== 'number' || step >= value.length) {
      throw inputError('ERR_USAGE', `the list has no entry ${step}`, {
        where: override.text,
        remedy: value.length === 0 ? 'The list is empty.' : `Its entries are numbered 0 to ${value.length - 1}.`,
      });
    }
    return value.with(step, replace(value[step], rest, override));
  }
  const object = typeof value === 'object' && value !== null ? value : {};
  const entries = new Map<string, unknown>(Object.entries(object));
  entries.set(String(step), replace(entries.get(String(step)), rest, override));
  return Object.fromEntries(entries);
}
