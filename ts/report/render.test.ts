import { expect, test } from 'vitest';
import type { Evaluation } from '../evaluate/evaluation.ts';
import { renderReport } from './render.ts';
import type { RunReport } from './run-report.ts';

const PIXEL = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);

const evaluation: Evaluation = {
  version: 1,
  sampler: 'ddim',
  steps: 20,
  size: [128, 128],
  seeds: [1],
  prompts: [
    { text: 'a <red> apple', heldOut: false },
    { text: 'a dog', heldOut: true },
  ],
  models: [
    { id: 'teacher', label: 'two teachers', guidance: 5, forwardsPerImage: 80, secondsPerImage: 1.5 },
    { id: 'student', label: 'student', guidance: 1, forwardsPerImage: 20, secondsPerImage: 0.4 },
    { id: 'undistilled', label: 'base', guidance: 1, forwardsPerImage: 20, secondsPerImage: 0.4 },
  ],
  distance: { trained: 0.612, heldOut: null, all: 0.654 },
  rms: { student: 0.4, undistilled: 0.6 },
  images: [0, 1].map((prompt) => ({
    prompt,
    seed: 1,
    files: { teacher: `t${prompt}.png`, student: `s${prompt}.png`, undistilled: `u${prompt}.png` },
  })),
};

const report: RunReport = {
  name: 'emoji <cfg>',
  recipe: { name: 'emoji <cfg>' },
  metrics: Array.from({ length: 50 }, (_, step) => ({
    step: step + 1,
    loss: 1 / (step + 1),
    'loss/animals': 0.5 / (step + 1),
    lr: 1e-4,
    gradNorm: 1,
    secondsPerStep: 0.2,
    samples: 8 * (step + 1),
  })),
  samples: [{ step: 50, images: [{ name: 'a dog', png: PIXEL }] }],
  verification: [
    {
      subject: 'cache',
      expected: 'clean',
      entries: 64,
      findings: [],
      wasmEqual: true,
      seconds: { native: 0.1, wasm: 0.3 },
    },
    {
      subject: 'one bit flipped',
      expected: 'damage',
      entries: 64,
      findings: ['shard-digest'],
      wasmEqual: true,
      seconds: { native: 0.1, wasm: null },
    },
    {
      subject: 'prediction scaled',
      expected: 'damage',
      entries: 64,
      findings: [],
      wasmEqual: false,
      seconds: { native: 0.1, wasm: 0.2 },
    },
  ],
  evaluation,
  pictures: new Map(['t0', 's0', 'u0', 't1', 's1'].map((name) => [`${name}.png`, PIXEL])),
  stages: [{ name: 'train', seconds: 62.5 }],
  madeBy: 'potstill 0.1.0',
};

const page = renderReport(report);

test('shows what was found and nothing that was not', () => {
  expect(page).toContain('0.654');
  expect(page).toContain('0.612');
  expect(page).not.toContain('on prompts held out</span>');
  expect(page).toContain('missing: u1.png');
});

test('a damaged copy that verification missed is called missed, not verified', () => {
  expect(page.match(/class="good">verified/g)).toHaveLength(1);
  expect(page.match(/class="good">caught/g)).toHaveLength(1);
  expect(page.match(/class="bad">missed/g)).toHaveLength(1);
});

test('escapes names and prompts and loads nothing from elsewhere', () => {
  expect(page).not.toContain('<red>');
  expect(page).not.toContain('emoji <cfg>');
  expect(page).not.toMatch(/(?:src|href)="(?!data:)/);
});

test('a run without an evaluation still has its curves', () => {
  const bare = renderReport({
    name: report.name,
    recipe: {},
    metrics: report.metrics,
    samples: [],
    verification: [],
    pictures: new Map(),
    stages: [],
    madeBy: 'potstill',
  });
  expect(bare).toContain('50 steps recorded');
  expect(bare).not.toContain('undefined');
});

test('tables name their columns, and what scrolls can be reached by keyboard', () => {
  expect(page).not.toMatch(/<th(?![^>]* scope=)/);
  expect(page).not.toMatch(/class="scroll"(?![^>]*tabindex="0")/);
  expect(page.match(/<img (?![^>]*alt="[^"])/)).toBeNull();
  expect(page).toContain('<main>');
});
