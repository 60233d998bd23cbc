import type { Evaluation } from '../evaluate/evaluation.ts';
import type { StepMetrics } from '../train/metrics.ts';
import { CHART_SCRIPT, lineChart, type Series } from './chart.ts';
import { dataUrl, gallery } from './gallery.ts';
import { Html, html } from './html.ts';
import type { RunReport, VerificationRow } from './run-report.ts';
import { STYLE } from './style.ts';

/** The report of a run as one self-contained HTML page: no script or picture is loaded from elsewhere. */
export function renderReport(report: RunReport): string {
  const { evaluation, metrics } = report;
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${report.name}: potstill report</title><style>${new Html(STYLE)}</style></head><body><main>
<h1>${report.name}</h1>
${evaluation === undefined ? html`<p class="lead">${metrics.length} steps recorded.</p>` : summary(evaluation)}
${evaluation === undefined ? null : html`<h2>The same noise, three models</h2>${gallery(evaluation, report.pictures)}`}
${evaluation === undefined ? null : html`<h2>What a picture costs</h2>${costs(evaluation)}`}
<h2>Training</h2>
${lineChart({ title: 'Loss (faint: each step, strong: smoothed)', xLabel: 'step', yLabel: 'loss', log: true, series: lossSeries(metrics) })}
${lineChart({ title: 'Gradient norm before clipping', xLabel: 'step', yLabel: 'norm', log: true, series: [column(metrics, 'gradNorm', 'gradient norm')] })}
${report.samples.length === 0 ? null : html`<h2>Samples while training</h2>${report.samples.map(samplesAt)}`}
${report.verification.length === 0 ? null : html`<h2>The caches, verified</h2>${verification(report.verification)}`}
${report.stages.length === 0 ? null : html`<h2>Where the time went</h2>${stages(report.stages)}`}
<h2>Recipe</h2><details><summary>${report.name}: recipe.json, resolved</summary><pre>${JSON.stringify(report.recipe, null, 2)}</pre></details>
</main><footer>Made by ${report.madeBy}.</footer>
<script>${new Html(CHART_SCRIPT)}</script></body></html>
`.text;
}

function summary(evaluation: Evaluation): Html {
  const { distance } = evaluation;
  const teacher = evaluation.models.find(({ id }) => id === 'teacher');
  const student = evaluation.models.find(({ id }) => id === 'student');
  const tile = (value: string, label: string, key = false): Html =>
    html`<div class="tile${key ? ' key' : ''}"><b>${value}</b><span>${label}</span></div>`;
  const held =
    distance.heldOut === null ? '' : ` On prompts held out of training it is ${distance.heldOut.toFixed(3)}.`;
  const nearer = distance.all < 1 ? 'nearer to its teachers than' : 'no nearer to its teachers than';
  return html`<p class="lead">The student is ${nearer} the model it started from: its distance is <b>${distance.all.toFixed(3)}</b>, where 1 is the
undistilled model and 0 the teachers.${held}</p>
<div class="tiles">
${tile(distance.all.toFixed(3), "student's distance, all prompts", true)}
${distance.trained === null ? null : tile(distance.trained.toFixed(3), 'on prompts it was trained on')}
${distance.heldOut === null ? null : tile(distance.heldOut.toFixed(3), 'on prompts held out')}
${tile('1.000', 'undistilled model, same guidance')}
${teacher && student ? tile(`${student.forwardsPerImage} / ${teacher.forwardsPerImage}`, 'forwards per picture, student / teachers') : null}
</div>
<p class="note">Distance: root mean square difference from the guided teachers' final latents, from the same noise, sampler (${evaluation.sampler})
and ${evaluation.steps} steps, divided by that of the undistilled model at the student's guidance.</p>`;
}

function costs(evaluation: Evaluation): Html {
  return html`${scrolling(
    'What a picture costs',
    html`<table><tr><th scope="col">model</th><th scope="col" class="number">guidance</th><th scope="col" class="number">steps</th><th scope="col" class="number">UNet forwards</th><th scope="col" class="number">seconds</th><th scope="col" class="number">distance</th></tr>
${evaluation.models.map(
  (model) =>
    html`<tr><td>${model.label}</td><td class="number">${model.guidance}</td><td class="number">${evaluation.steps}</td><td class="number">${model.forwardsPerImage}</td><td class="number">${model.secondsPerImage.toFixed(3)}</td><td class="number">${
      model.id === 'teacher' ? '0' : model.id === 'student' ? evaluation.distance.all.toFixed(3) : '1'
    }</td></tr>`,
)}</table>`,
  )}<p class="note">Per picture; decoding by the VAE is the same for all and left out.</p>`;
}

function lossSeries(metrics: readonly StepMetrics[]): Series[] {
  const names = new Set(metrics.flatMap((row) => Object.keys(row)).filter((name) => name.startsWith('loss/')));
  return [
    column(metrics, 'loss', 'loss'),
    ...[...names].sort().map((name) => column(metrics, name, name.slice('loss/'.length))),
  ];
}

function column(metrics: readonly StepMetrics[], name: string, label: string): Series {
  return {
    label,
    points: metrics.map((row): [number, number] => [row.step, row[name as keyof StepMetrics] ?? Number.NaN]),
  };
}

function samplesAt({ step, images }: RunReport['samples'][number]): Html {
  return html`<h3>Step ${step}</h3><div class="strip">${images.map(
    ({ name, png }) =>
      html`<figure><img src="${dataUrl(png)}" alt="${name}" loading="lazy"><figcaption>${name}</figcaption></figure>`,
  )}</div>`;
}

function verification(rows: readonly VerificationRow[]): Html {
  const verdict = ({ expected, findings }: VerificationRow): Html => {
    const clean = findings.length === 0;
    const right = clean === (expected === 'clean');
    const text = clean ? 'no finding' : findings.join(', ');
    return html`<span class="${right ? 'good' : 'bad'}">${right ? (clean ? 'verified' : 'caught') : clean ? 'missed' : 'failed'}</span> ${text}`;
  };
  return scrolling(
    'The caches, verified',
    html`<table><tr><th scope="col">cache</th><th scope="col">verdict</th><th scope="col" class="number">entries</th><th scope="col">native = WASM</th><th scope="col" class="number">native, s</th><th scope="col" class="number">WASM, s</th></tr>
${rows.map(
  (row) =>
    html`<tr><td>${row.subject}</td><td>${verdict(row)}</td><td class="number">${row.entries}</td><td>${
      row.wasmEqual === null ? 'not compared' : row.wasmEqual ? 'same bytes' : html`<span class="bad">differ</span>`
    }</td><td class="number">${row.seconds.native.toFixed(2)}</td><td class="number">${row.seconds.wasm?.toFixed(2) ?? ''}</td></tr>`,
)}</table>`,
  );
}

/** What may be wider than a narrow page: reached and scrolled with the keyboard too. */
function scrolling(label: string, content: Html): Html {
  return html`<div class="scroll" role="region" aria-label="${label}" tabindex="0">${content}</div>`;
}

function stages(rows: RunReport['stages']): Html {
  const total = rows.reduce((sum, { seconds }) => sum + seconds, 0);
  return html`<table><tr><th scope="col">stage</th><th scope="col" class="number">seconds</th></tr>${rows.map(
    ({ name, seconds }) => html`<tr><td>${name}</td><td class="number">${seconds.toFixed(1)}</td></tr>`,
  )}<tr><th scope="row">together</th><th scope="col" class="number">${total.toFixed(1)}</th></tr></table>`;
}
