import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeTinyProject, type TinyProject } from '../../test/support/tiny-project.ts';
import { loadEngine } from '../native/index.ts';
import { listCheckpoints, stepName } from '../train/checkpoints.ts';
import { readMetrics } from '../train/metrics.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Processes that start, build a small cache, and train. */
const TIMEOUT_MS = 120_000;

let project: TinyProject;
beforeAll(async () => {
  project = await makeTinyProject(await loadEngine());
}, TIMEOUT_MS);
afterAll(() => project[Symbol.dispose]());

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts `potstill train` as a user does; gives the process and how it ended. */
function start(...words: string[]): { process: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', join(ROOT, 'ts/cli/main.ts'), 'train', project.recipeFile, ...words],
    { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text;
    });
  }
  const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code, ...said })));
  return { process: child, ended };
}

/** Waits until a run has logged some steps. */
async function untilSteps(metrics: string, steps: number, ended: Promise<Ended>): Promise<void> {
  let over: Ended | undefined;
  void ended.then((result) => {
    over = result;
  });
  while (!existsSync(metrics) || (await readMetrics(metrics)).length < steps) {
    if (over !== undefined) throw new Error(`the run ended with ${over.code}: ${over.stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('potstill train', () => {
  it(
    'writes a checkpoint on Ctrl-C and exits 130; --resume goes on',
    async () => {
      const output = join(project.folder, 'interrupted');
      const long = ['--set', `output=${output}`, '--set', 'training.steps=100000'];
      const first = start(...long);
      await untilSteps(join(output, 'metrics.jsonl'), 2, first.ended);
      first.process.kill('SIGINT');
      const interrupted = await first.ended;
      expect(interrupted.code, interrupted.stderr).toBe(130);
      expect(interrupted.stderr).toContain('--resume');
      const [name = ''] = readdirSync(join(output, 'checkpoints'));
      const step = Number(/^step-(\d{6})$/.exec(name)?.[1]);
      const files = ['optimizer.safetensors', 'state.json', 'student.safetensors'];
      expect(readdirSync(join(output, 'checkpoints', name)).sort()).toEqual(files);
      expect((await readMetrics(join(output, 'metrics.jsonl'))).at(-1)?.step).toBe(step);

      const again = await start(...long).ended;
      expect(again.code).toBe(2);
      expect(again.stderr).toContain('--resume');

      const steps = step + 3;
      const rest = ['--set', `output=${output}`, '--set', `training.steps=${steps}`, '--resume', '--json'];
      const finished = await start(...rest).ended;
      expect(finished.code, finished.stderr).toBe(0);
      const result: unknown = JSON.parse(finished.stdout);
      expect(result).toMatchObject({ step: steps, folder: output, student: join(output, 'student') });
      const metrics = await readMetrics(join(output, 'metrics.jsonl'));
      expect(metrics.map((line) => line.step)).toEqual(Array.from({ length: steps }, (_, index) => index + 1));
      expect(JSON.parse(readFileSync(join(output, 'recipe.json'), 'utf8'))).toMatchObject({ name: 'tiny' });
    },
    TIMEOUT_MS,
  );

  it(
    'goes on after being killed, to the bits of a run that was not',
    async () => {
      const words = (name: string, steps: number): string[] => {
        const settings = {
          output: join(project.folder, name),
          'training.steps': steps,
          'training.checkpoint.every': 2,
        };
        return Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
      };
      const killed = start(...words('killed', 100_000));
      await untilSteps(join(project.folder, 'killed', 'metrics.jsonl'), 5, killed.ended);
      killed.process.kill('SIGKILL');
      await killed.ended;
      const last = (await listCheckpoints(join(project.folder, 'killed', 'checkpoints'))).at(-1)?.step ?? 0;
      expect(last).toBeGreaterThanOrEqual(4);
      const steps = last + 3;
      const resumed = await start(...words('killed', steps), '--resume').ended;
      expect(resumed.code, resumed.stderr).toBe(0);
      const whole = await start(...words('whole', steps)).ended;
      expect(whole.code, whole.stderr).toBe(0);
      for (const file of ['student', 'optimizer']) {
        const [one, other] = ['killed', 'whole'].map((name) =>
          readFileSync(join(project.folder, name, 'checkpoints', stepName(steps), `${file}.safetensors`)),
        );
        expect(one?.equals(other ?? Buffer.of()), file).toBe(true);
      }
      const [one, other] = await Promise.all(
        ['killed', 'whole'].map(async (name) => {
          const metrics = await readMetrics(join(project.folder, name, 'metrics.jsonl'));
          return metrics.map((line) => ({ ...line, secondsPerStep: undefined }));
        }),
      );
      expect(one).toEqual(other);
    },
    TIMEOUT_MS,
  );

  it(
    'measures with --validate, and trains nothing',
    async () => {
      const output = join(project.folder, 'measured');
      const held = ['training.validation.fraction=0.5', 'training.validation.draws=2', `output=${output}`];
      const words = ['--validate', ...held.flatMap((text) => ['--set', text])];
      const ended = await start(...words, '--json').ended;
      expect(ended.code, ended.stderr).toBe(0);
      expect(JSON.parse(ended.stdout)).toEqual({
        student: join(project.folder, 'base'),
        samples: 3,
        draws: 2,
        loss: expect.any(Number),
        shuffledCaptions: expect.any(Number),
      });
      expect(existsSync(output)).toBe(false);
      const alone = await start('--student', 'elsewhere').ended;
      expect([alone.code, alone.stderr]).toEqual([2, expect.stringContaining('--validate')]);
    },
    TIMEOUT_MS,
  );

  it(
    'exits 2 at a model that is not there, and writes no run',
    async () => {
      const output = join(project.folder, 'impossible');
      const ended = await start(
        '--set',
        `output=${output}`,
        '--set',
        `student.model=${join(project.folder, 'nowhere')}`,
      ).ended;
      expect(ended.code, ended.stderr).toBe(2);
      expect(ended.stderr).toContain('nowhere');
      expect(existsSync(output)).toBe(false);
    },
    TIMEOUT_MS,
  );

  it(
    'exits 2 at a cache of other draws, naming the place',
    async () => {
      const words = ['--set', 'training.steps=1', '--set', `output=${join(project.folder, 'draws')}`];
      expect((await start(...words).ended).code).toBe(0);
      const other = await start('--set', `output=${join(project.folder, 'other')}`, '--set', 'cache.draws=3').ended;
      expect(other.code, other.stderr).toBe(2);
      expect(other.stderr).toContain(join(project.folder, 'cache', 'teachers', 'first'));
      expect(existsSync(join(project.folder, 'other'))).toBe(false);
    },
    TIMEOUT_MS,
  );
});
