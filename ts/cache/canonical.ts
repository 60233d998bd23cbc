/** Half of a character: in Unicode mode, whole pairs do not match. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/** What JSON can hold. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

/**
 * Canonical JSON by RFC 8785: no white space, keys in the order of their UTF-16 code units, numbers and strings as
 * ECMAScript writes them. Keys whose value is undefined are left out.
 *
 * @throws TypeError for a number that JSON cannot hold and for a lone surrogate
 */
export function canonicalJson(value: Json): string {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError(`JSON holds no ${value}`);
  if (typeof value === 'string') return canonicalString(value);
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const members = Object.keys(value)
    .sort()
    .flatMap((key) => {
      const member = value[key];
      return member === undefined ? [] : [`${canonicalString(key)}:${canonicalJson(member)}`];
    });
  return `{${members.join(',')}}`;
}

function canonicalString(text: string): string {
  if (LONE_SURROGATE.test(text)) throw new TypeError(`not a Unicode text: ${JSON.stringify(text)}`);
  return JSON.stringify(text);
}

/** `Array.isArray` with a type that knows read-only arrays. */
function isArray(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}
