/** A value longer than this makes a line of an error message unreadable. */
const MAX_VALUE_LENGTH = 60;

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * The places at which two JSON values differ, as paths such as `training.optimizer.lr` or `teachers[1].weight`. A key
 * whose value is undefined counts as missing, as in JSON.
 */
export function differingKeys(before: unknown, after: unknown, path = ''): string[] {
  if (Object.is(before, after)) return [];
  if (Array.isArray(before) && Array.isArray(after)) {
    const length = Math.max(before.length, after.length);
    return Array.from({ length }, (_, index) => differingKeys(before[index], after[index], `${path}[${index}]`)).flat();
  }
  if (isRecord(before) && isRecord(after)) {
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
    return keys.flatMap((key) => differingKeys(before[key], after[key], path === '' ? key : `${path}.${key}`));
  }
  return [path];
}

/** A JSON value in a message: short ones as they are, long ones cut. */
export function inWords(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length <= MAX_VALUE_LENGTH ? text : `${text.slice(0, MAX_VALUE_LENGTH - 1)}…`;
}
