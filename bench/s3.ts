/**
 * A cache built on, joined on and verified from an S3 server that others wrote: `tsx bench/s3.ts`. Starts versitygw
 * (`go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`) for a temporary folder, builds the demo's cache there in two
 * parts that run at the same time, and holds the report and the seals against those of a cache in a folder.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { loadEngine } from '../ts/native/index.ts';
import { options } from './lib/options.ts';
import { freePort } from './lib/port.ts';
import { publish } from './lib/publish.ts';

const ROOT = join(import.meta.dirname, '..');
const MAIN = join(ROOT, 'dist', 'cli', 'main.js');
const RECIPE = 'configs/demo/recipes/demo.json';
const CACHE = 's3://caches/demo';
/** Verifications that are timed, of each place by turns. */
const TURNS = 5;
/** How long the server may take to answer, in milliseconds, and how often it is asked. */
const PATIENCE_MS = 30_000;
const POLL_MS = 100;

const { server: program } = options({ server: 'versitygw' });
const port = await freePort();
const keys = { ACCESS: 'bench', SECRET: crypto.randomUUID() };
const environment = {
  ...process.env,
  AWS_ENDPOINT_URL: `http://127.0.0.1:${port}`,
  AWS_ALLOW_HTTP: 'true',
  AWS_ACCESS_KEY_ID: keys.ACCESS,
  AWS_SECRET_ACCESS_KEY: keys.SECRET,
};

async function potstill(...words: string[]): Promise<string> {
  const run = { cwd: ROOT, env: environment, maxBuffer: 2 ** 28 };
  return (await promisify(execFile)(process.execPath, [MAIN, ...words], run)).stdout;
}

/** Module and version that a program of Go was built of; `--version` knows neither of what `go install` made. */
function versionOf(name: string): string {
  const path = execFileSync('sh', ['-c', 'command -v "$0"', name], { encoding: 'utf8' }).trim();
  const [, module, version] =
    /^\tmod\t(\S+)\t(\S+)/m.exec(execFileSync('go', ['version', '-m', path], { encoding: 'utf8' })) ?? [];
  return `${module} ${version}`;
}

/** What a server keeps of a cache, as a folder's report shows it: digests of plans and seals, records and findings. */
async function verified(cache: string): Promise<{ report: string; seconds: number }> {
  const begun = performance.now();
  const report = await potstill('cache', 'verify', cache, '--json');
  return { report, seconds: (performance.now() - begun) / 1000 };
}

async function answers(server: ChildProcess): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS; ; await sleep(POLL_MS)) {
    if (server.exitCode !== null || performance.now() > end) throw new Error(`${program} does not answer`);
    // Whatever it answers, it is there.
    const answer = await fetch(environment.AWS_ENDPOINT_URL).catch(() => undefined);
    if (answer !== undefined) return;
  }
}

const folder = await mkdtemp(join(tmpdir(), 'potstill-s3-'));
const data = join(folder, 'data');
await mkdir(join(data, 'caches'), { recursive: true });
const words = ['--access', keys.ACCESS, '--secret', keys.SECRET, '--port', `127.0.0.1:${port}`, 'posix', data];
const server = spawn(program, words, { stdio: 'ignore' });
server.on('error', (error) => process.stderr.write(`${error.message}\n`));
try {
  await answers(server);
  const begun = performance.now();
  const build = (part: string) =>
    potstill('cache', 'build', RECIPE, '--set', `cache.dir=${CACHE}`, '--shard', part, '--json');
  const parts = (await Promise.all(['1/2', '2/2'].map(build))).map((text) => JSON.parse(text));
  const sealed = JSON.parse(await potstill('cache', 'seal', CACHE, '--json'));
  const seconds = (performance.now() - begun) / 1000;

  const alone = join(folder, 'alone');
  await potstill('cache', 'build', RECIPE, '--set', `cache.dir=${alone}`);
  const times: { s3: number[]; folder: number[] } = { s3: [], folder: [] };
  const reports = new Set<string>();
  for (let turn = 0; turn < TURNS; turn += 1) {
    const [there, here] = [await verified(CACHE), await verified(alone)];
    times.s3.push(there.seconds);
    times.folder.push(here.seconds);
    reports.add(there.report).add(here.report);
  }
  const [report = '{}'] = reports;
  const { verdict, components } = JSON.parse(report);
  const engine = await loadEngine();
  await publish('s3', {
    command: 'tsx bench/s3.ts',
    what: "the demo's cache built on an S3 server of this machine in two parts at once, joined there and verified from there",
    server: versionOf(program),
    kernels: engine.kernelClass,
    threads: engine.threads,
    seconds,
    parts: parts.map(({ part, components, seconds: own }) => ({ part, components, seconds: own })),
    sealed: sealed.components,
    verification: { verdict, components, reportsAndSealsAsOfAFolder: reports.size === 1 },
    secondsToVerify: times,
  });
} finally {
  server.kill('SIGTERM');
  await rm(folder, { recursive: true, force: true });
}
