import type { ResizedLayer } from '../adapter/index.ts';

/** Layers shown in the text: those that lost most. */
const MOST_LAYERS = 5;

/** What an adapter of few ranks has lost, in words. */
export function describeLost(out: string, layers: readonly ResizedLayer[]): string {
  const most = [...layers].sort((a, b) => b.lost - a.lost).slice(0, MOST_LAYERS);
  const ranks = (which: 'from' | 'to'): number => layers.reduce((sum, layer) => sum + layer[which], 0);
  return [
    out,
    `${layers.length} layers, ranks ${ranks('from')} to ${ranks('to')} in all; lost most, as a share of the norm:`,
    ...most.map(({ name, from, to, lost }) => `  ${(100 * lost).toPrecision(3)} %  ${name}, rank ${from} to ${to}`),
  ].join('\n');
}
