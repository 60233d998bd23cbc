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
<title>${report.name}: potstill report</title><style>${new Html(STYLE)}</style></head><body>
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
<footer>Made by ${report.madeBy}.</footer>
<script>${new Html(CHART_SCRIPT)}</script></body></html>
`.text;
}

function summary(evaluation: Evaluation): Html {
  const { distance } = evaluation;
  const teacher = evaluation.models.find(({ id }) => id === 'teacher');
  const student = evaluation.models.find(({ id }) => id === 'student');
  const tile = (value: string, label: string, key = false): Html =>
    html`<div class="tile${key ? ' key' : ''}"><b>${value}</b><span>${label}</span></div>`;
  return html`<p class="lead">Distance is the root mean square difference from the guided teacher's final latents, from the same noise, sampler
(${evaluation.sampler}) and ${evaluation.steps} steps, divided by that of the undistilled model at the student's guidance.
1 is the undistilled model; 0 would be the teacher itself.</p>
<div class="tiles">
${tile(distance.all.toFixed(3), "student's distance, all prompts", true)}
${distance.trained === null ? null : tile(distance.trained.toFixed(3), 'on prompts it was trained on')}
${distance.heldOut === null ? null : tile(distance.heldOut.toFixed(3), 'on prompts held out')}
${tile('1.000', 'undistilled model, same guidance')}
${teacher && student ? tile(`${student.forwardsPerImage} / ${teacher.forwardsPerImage}`, 'forwards per picture, student / teachers') : null}
</div>`;
}

function costs(evaluation: Evaluation): Html {
  return html`<table><tr><th>model</th><th class="number">guidance</th><th class="number">steps</th><th class="number">UNet forwards</th><th class="number">seconds</th><th class="number">distance</th></tr>
${evaluation.models.map(
  (model) =>
    html`<tr><td>${model.label}</td><td class="number">${model.guidance}</td><td class="number">${evaluation.steps}</td><td class="number">${model.forwardsPerImage}</td><td class="number">${model.secondsPerImage.toFixed(3)}</td><td class="number">${
      model.id === 'teacher' ? '0' : model.id === 'student' ? evaluation.distance.all.toFixed(3) : '1'
    }</td></tr>`,
)}</table><p class="note">Per picture; decoding by the VAE is the same for all and left out.</p>`;
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
  return html`<div class="scroll"><table><tr><th>cache</th><th>verdict</th><th class="number">entries</th><th>native = WASM</th><th class="number">native, s</th><th class="number">WASM, s</th></tr>
${rows.map(
  (row) =>
    html`<tr><td>${row.subject}</td><td>${verdict(row)}</td><td class="number">${row.entries}</td><td>${
      row.wasmEqual === null ? 'not compared' : row.wasmEqual ? 'same bytes' : html`<span class="bad">differ</span>`
    }</td><td class="number">${row.seconds.native.toFixed(2)}</td><td class="number">${row.seconds.wasm?.toFixed(2) ?? ''}</td></tr>`,
)}</table></div>`;
}

function stages(rows: RunReport['stages']): Html {
  const total = rows.reduce((sum, { seconds }) => sum + seconds, 0);
  return html`<table><tr><th>stage</th><th class="number">seconds</th></tr>${rows.map(
    ({ name, seconds }) => html`<tr><td>${name}</td><td class="number">${seconds.toFixed(1)}</td></tr>`,
  )}<tr><th>together</th><th class="number">${total.toFixed(1)}</th></tr></table>`;
}
