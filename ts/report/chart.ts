import { type Html, html } from './html.ts';
import { formatTick, logTicks, niceTicks } from './ticks.ts';

/** One line of a chart. */
export interface Series {
  readonly label: string;
  /** Points in order of x; points that are not finite are left out. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface ChartOptions {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
  /** Logarithmic y axis; points at or below zero are left out. */
  readonly log?: boolean;
}

const WIDTH = 720;
const HEIGHT = 300;
const MARGIN = { top: 16, right: 16, bottom: 44, left: 60 } as const;
/** Longer series are averaged into this many buckets: more points than pixels only make the file large. */
const MAX_POINTS = 400;
/** Weight of the past in the smoothed line: about the last 20 points. */
const SMOOTHING = 0.9;

/** A line chart as inline SVG: faint raw values, a smoothed line above them, and values on hover. */
export function lineChart(options: ChartOptions): Html {
  const scale = options.log === true ? Math.log10 : (value: number): number => value;
  const series = options.series.map(({ label, points }) => ({
    label,
    points: thin(
      points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (options.log !== true || y > 0)),
    ),
  }));
  const xs = series.flatMap(({ points }) => points.map(([x]) => x));
  const ys = series.flatMap(({ points }) => points.map(([, y]) => scale(y)));
  if (xs.length === 0) return html`<p class="empty">${options.title}: nothing recorded.</p>`;
  const [x0, x1] = range(xs);
  const [y0, y1] = pad(range(ys));
  const left = (x: number): number => MARGIN.left + ((x - x0) / (x1 - x0 || 1)) * (WIDTH - MARGIN.left - MARGIN.right);
  const top = (y: number): number =>
    HEIGHT - MARGIN.bottom - ((scale(y) - y0) / (y1 - y0 || 1)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const path = (points: Series['points']): string =>
    points.map(([x, y], index) => `${index === 0 ? 'M' : 'L'}${left(x).toFixed(1)} ${top(y).toFixed(1)}`).join('');

  const yTicks = options.log === true ? logTicks(10 ** y0, 10 ** y1) : niceTicks(y0, y1);
  return html`<figure class="chart" data-series="${JSON.stringify(series)}" data-frame="${JSON.stringify([x0, x1, MARGIN.left, WIDTH - MARGIN.right, WIDTH])}">
<figcaption>${options.title}</figcaption>
<div class="scroll" tabindex="0" role="region" aria-label="${options.title}"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${options.title}">
${yTicks.map((tick) => html`<line class="grid" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${top(tick).toFixed(1)}" y2="${top(tick).toFixed(1)}"/><text class="tick" x="${MARGIN.left - 8}" y="${(top(tick) + 4).toFixed(1)}" text-anchor="end">${formatTick(tick)}</text>`)}
${niceTicks(x0, x1, 6).map((tick) => html`<text class="tick" x="${left(tick).toFixed(1)}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${formatTick(tick)}</text>`)}
<text class="axis" x="${(MARGIN.left + WIDTH - MARGIN.right) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${options.xLabel}</text>
<text class="axis" transform="translate(14 ${(HEIGHT - MARGIN.bottom + MARGIN.top) / 2}) rotate(-90)" text-anchor="middle">${options.yLabel}</text>
${series.map(({ points }, index) => html`<path class="raw s${index % 6}" d="${path(points)}"/>`)}
${series.map(({ points }, index) => html`<path class="line s${index % 6}" d="${path(smooth(points))}"/>`)}
<line class="cursor" y1="${MARGIN.top}" y2="${HEIGHT - MARGIN.bottom}" visibility="hidden"/>
</svg></div>
<div class="legend">${series.map(({ label }, index) => html`<span><i class="s${index % 6}"></i>${label} <b></b></span>`)}</div>
</figure>`;
}

/** Runs in the page: shows the values nearest to the pointer in the legend. Charts draw without it. */
export const CHART_SCRIPT = `
for (const chart of document.querySelectorAll("figure.chart[data-series]")) {
  const series = JSON.parse(chart.dataset.series), [x0, x1, left, right, width] = JSON.parse(chart.dataset.frame);
  const svg = chart.querySelector("svg"), cursor = chart.querySelector(".cursor"), values = chart.querySelectorAll(".legend b");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * width;
    const x = x0 + ((at - left) / (right - left)) * (x1 - x0);
    series.forEach(({ points }, index) => {
      const near = points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best), points[0]);
      if (near) values[index].textContent = near[1].toPrecision(4) + " at " + near[0];
    });
    cursor.setAttribute("x1", at); cursor.setAttribute("x2", at); cursor.setAttribute("visibility", "visible");
  });
  svg.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); values.forEach((b) => (b.textContent = "")); });
}`;

function range(values: readonly number[]): [number, number] {
  return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
}

function pad([min, max]: [number, number]): [number, number] {
  const room = (max - min || Math.abs(max) || 1) * 0.06;
  return [min - room, max + room];
}

function thin(points: Series['points']): Series['points'] {
  if (points.length <= MAX_POINTS) return points;
  const size = Math.ceil(points.length / MAX_POINTS);
  const buckets: [number, number][] = [];
  for (let start = 0; start < points.length; start += size) {
    const bucket = points.slice(start, start + size);
    const mean = bucket.reduce((sum, [, y]) => sum + y, 0) / bucket.length;
    buckets.push([bucket.at(-1)?.[0] ?? 0, mean]);
  }
  return buckets;
}

/** Exponential moving average, corrected for its start (as Adam corrects its moments). */
function smooth(points: Series['points']): Series['points'] {
  let sum = 0;
  let weight = 0;
  return points.map(([x, y]) => {
    sum = SMOOTHING * sum + (1 - SMOOTHING) * y;
    weight = SMOOTHING * weight + (1 - SMOOTHING);
    return [x, sum / weight];
  });
}
