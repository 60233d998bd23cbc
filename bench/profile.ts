/**
 * Where a training step's time goes, against what the machine can do: `tsx bench/profile.ts --mode full --python PATH`.
 * Keeps `results/profile-ARCH-MODE.json` and writes the table between the mode's marks in docs/training-step.md.
 */
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type Architecture, measure, UNETS, UnetBenchmark, type UnetMode } from '../ts/bench/index.ts';
import { loadEngine } from '../ts/native/index.ts';
import { writeAtomic } from '../ts/write-atomic.ts';
import { watchOthers } from './lib/busy.ts';
import { groups, groupTable, type Limits } from './lib/groups.ts';
import { options } from './lib/options.ts';
import { publish } from './lib/publish.ts';

const PAGE = join(import.meta.dirname, '..', 'docs', 'training-step.md');
const ITERATIONS = 2;

const given = options({ arch: 'sd15', mode: 'full', size: '512', threads: String(availableParallelism()) });
if (given.python === undefined) throw new RangeError('--python PATH: a Python with torch measures the limits');
const side = join(import.meta.dirname, 'sides', 'torch_limits.py');
const limits: Limits = JSON.parse(execFileSync(given.python, [side, given.threads], { encoding: 'utf8' }));

const { arch, mode } = given;
const workload = { size: Number(given.size), batch: 1, mode: mode as UnetMode };
const engine = await loadEngine({ threads: Number(given.threads) });
const unet = await UnetBenchmark.create(engine, UNETS[arch as Architecture], workload);
const others = await watchOthers(process.pid);
const { profile = [], ...measurement } = await measure(engine, () => unet.run(), {
  iterations: ITERATIONS,
  profile: true,
});
const found = groups(profile, limits);
const othersBusy = await others();
await publish(`profile-${arch}-${mode}`, {
  workload: { arch, ...workload },
  limits,
  othersBusy,
  ...measurement,
  groups: found,
});

const text = await readFile(PAGE, 'utf8');
const [begin, end] = [`<!-- ${arch} ${mode}: written by bench/profile.ts -->`, '<!-- end -->'];
const [before, rest] = text.split(begin);
if (before === undefined || rest === undefined) throw new Error(`${PAGE} lacks the mark ${begin}`);
const after = rest.slice(rest.indexOf(end));
await writeAtomic(PAGE, `${before}${begin}\n${groupTable(found)}\n${after}`);
