import { styleText } from 'node:util';

/** Colours text for a terminal; leaves it alone for files, pipes and where NO_COLOR is set (no-color.org). */
export function paint(
  style: 'red' | 'green' | 'yellow' | 'bold' | 'dim',
  text: string,
  stream: { readonly isTTY?: boolean },
): string {
  const { NO_COLOR, TERM } = process.env;
  const plain = stream.isTTY !== true || (NO_COLOR !== undefined && NO_COLOR !== '') || TERM === 'dumb';
  return plain ? text : styleText(style, text);
}
