/**
 * A cache built by a real Slurm on this machine: `tsx bench/slurm.ts` as root. Starts Debian's slurmctld, slurmd and munged
 * with their files in a temporary folder, submits configs/cluster/slurm-build.sh as an array on the demo's models and
 * pictures, puts one task back into the queue while it is at work, and slurm-seal.sh after them; then holds the seals
 * against those that one process writes.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadEngine } from '../ts/native/index.ts';
import { options } from './lib/options.ts';
import { publish } from './lib/publish.ts';
import { documentsIn, LocalSlurm, type SlurmJob } from './lib/slurm.ts';

const ROOT = join(import.meta.dirname, '..');
const MAIN = join(ROOT, 'dist', 'cli', 'main.js');
const RECIPE = 'configs/demo/recipes/demo.json';
const SCRIPTS = 'configs/cluster';
const COMPONENTS = ['latents', 'text', 'teachers/nature', 'teachers/people'];
/** Processors of the node, and so tasks at once: each asks for one. */
const PROCESSORS = 2;
/** The task that is put back into the queue, and the teacher of whose share it has written the first shard by then. */
const DISTURBED = 1;
const DISTURBED_AT = 'teachers/nature';
const POLL_MS = 20;
const PATIENCE_MS = 600_000;

const { tasks } = options({ tasks: '4' });
const count = Number(tasks);

/** What a run of a task printed. */
interface Built {
  readonly part: { readonly index: number; readonly count: number };
  readonly components: readonly { readonly name: string; readonly records: number; readonly computed: number }[];
  readonly seconds: number;
}

function potstill(...words: string[]): string {
  const stdio: ['ignore', 'pipe', 'inherit'] = ['ignore', 'pipe', 'inherit'];
  return execFileSync(process.execPath, [MAIN, ...words], { cwd: ROOT, encoding: 'utf8', stdio });
}

/** Waits for the first shard of a task's share, so that it is at its second one. */
async function begun(cache: string, task: number): Promise<void> {
  const shard = join(cache, DISTURBED_AT, `shard-${String(task).padStart(5, '0')}.safetensors`);
  for (const end = performance.now() + PATIENCE_MS; !existsSync(shard); await sleep(POLL_MS)) {
    if (performance.now() > end) throw new Error(`task ${task} has not written ${shard}`);
  }
}

function requireCompleted(jobs: readonly SlurmJob[]): void {
  const bad = jobs.find(({ state }) => state !== 'COMPLETED');
  if (bad !== undefined) throw new Error(`${bad.id} ended as ${bad.state}`);
}

const seals = (cache: string): Promise<string[]> =>
  Promise.all(COMPONENTS.map((component) => readFile(join(cache, component, 'seal.json'), 'utf8')));

const folder = await mkdtemp(join(tmpdir(), 'potstill-slurm-'));
try {
  const at = (name: string): string => join(folder, name);
  process.env['POTSTILL'] = `${process.execPath} ${MAIN}`;
  process.chdir(ROOT);
  await chmod(folder, 0o755);
  await mkdir(at('daemons'), { mode: 0o755 });
  await using slurm = await LocalSlurm.start(at('daemons'), PROCESSORS);

  const start = performance.now();
  const out = (name: string): string[] => [`--output=${at(`${name}.out`)}`, `--error=${at(`${name}.err`)}`];
  const build = [`${SCRIPTS}/slurm-build.sh`, RECIPE, '--set', `cache.dir=${at('cache')}`, '--json'];
  const job = slurm.submit([`--array=0-${count - 1}`, ...out('build-%a'), ...build]);
  const seal = slurm.submit([`--dependency=afterok:${job}`, ...out('seal'), `${SCRIPTS}/slurm-seal.sh`, at('cache')]);
  await begun(at('cache'), DISTURBED);
  await slurm.requeue(`${job}_${DISTURBED}`);
  const jobs = await slurm.ended(job, PATIENCE_MS);
  requireCompleted(jobs);
  const seconds = (performance.now() - start) / 1000;
  requireCompleted(await slurm.ended(seal, PATIENCE_MS));

  const array = await Promise.all(
    jobs
      .toSorted((a, b) => (a.task ?? 0) - (b.task ?? 0))
      .map(async ({ task, state, restarts, seconds: slurmSeconds }) => {
        const documents = await documentsIn(at(`build-${task}.out`));
        const { part, components, seconds: own } = documents.at(-1) as Built;
        const computed = Object.fromEntries(components.map((component) => [component.name, component.computed]));
        const interrupted = documents.length - 1;
        return {
          task,
          part: `${part.index}/${part.count}`,
          state,
          restarts,
          interrupted,
          slurmSeconds,
          seconds: own,
          computed,
        };
      }),
  );
  const disturbed = array[DISTURBED];
  if (disturbed === undefined || disturbed.restarts !== 1) throw new Error(`task ${DISTURBED} was not run again`);

  const { verdict, components } = JSON.parse(potstill('cache', 'verify', at('cache'), '--json'));
  potstill('cache', 'build', RECIPE, '--shard', '1/1', '--set', `cache.dir=${at('alone')}`);
  const [ours, alone] = [await seals(at('cache')), await seals(at('alone'))];
  const engine = await loadEngine();
  await publish('slurm', {
    command: `tsx bench/slurm.ts --tasks ${count}`,
    what: "the demo's cache as a Slurm array on one node of its own, by configs/cluster as shipped; one task requeued at work",
    slurm: slurm.version(),
    kernels: engine.kernelClass,
    threads: engine.threads,
    processors: PROCESSORS,
    tasks: count,
    seconds,
    array,
    sealing: (await readFile(at('seal.out'), 'utf8')).replaceAll(at('cache'), 'CACHE').trimEnd().split('\n'),
    verification: { verdict, components },
    sealsAsOfOneProcess: ours.every((text, index) => text === alone[index]),
  });
} finally {
  await rm(folder, { recursive: true, force: true });
}
