import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './port.ts';

/** What Slurm consists of here; Debian keeps the daemons where only root looks. */
const PATH = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`;
/** Debian's packages that bring it. */
const PACKAGES = 'slurmctld slurmd slurm-client munge';
/** How often its state is looked at, and how long a daemon may take to be there or gone, in milliseconds. */
const POLL_MS = 100;
const PATIENCE_MS = 30_000;
/** A key that munged accepts. */
const KEY_BYTES = 1024;

/** A task of an array, or a job without one, as Slurm keeps it. */
export interface SlurmJob {
  /** Of a task, `JOB_INDEX`. */
  readonly id: string;
  /** None of a job that is no array, or of tasks that have not begun. */
  readonly task: number | undefined;
  /** `PENDING`, `RUNNING`, `COMPLETED`, `FAILED` … */
  readonly state: string;
  /** How often it was put back into the queue. */
  readonly restarts: number;
  /** Seconds of its last run. */
  readonly seconds: number;
}

/**
 * Jobs as `scontrol --oneliner show job` prints them: `Key=value` with blanks between, a job on each line.
 *
 * @param text its output
 */
export function parseJobs(text: string): SlurmJob[] {
  const lines = text.split('\n').filter((line) => line.startsWith('JobId='));
  return lines.map((line) => {
    const fields = new Map([...line.matchAll(/(?:^| )(\w+)=(\S*)/g)].map(([, key = '', value = '']) => [key, value]));
    const array = fields.get('ArrayJobId');
    // Tasks that wait are one job together, whose index is a range.
    const index = /^\d+$/.test(fields.get('ArrayTaskId') ?? '') ? Number(fields.get('ArrayTaskId')) : undefined;
    const [hours = 0, minutes = 0, seconds = 0] = (fields.get('RunTime') ?? '').split(':').map(Number);
    return {
      id: array === undefined || index === undefined ? (fields.get('JobId') ?? '') : `${array}_${index}`,
      task: index,
      state: fields.get('JobState') ?? '',
      restarts: Number(fields.get('Restarts') ?? 0),
      seconds: hours * 3600 + minutes * 60 + seconds,
    };
  });
}

/** How the daemons are told to run: as one node, by whoever starts them, without control groups or a database. */
function configuration(folder: string, processors: number, [controller, node]: readonly [number, number]): string {
  const host = hostname().split('.')[0];
  return [
    'ClusterName=local',
    `SlurmctldHost=${host}(127.0.0.1)`,
    `SlurmctldPort=${controller}`,
    `SlurmdPort=${node}`,
    'SlurmUser=root',
    'AuthType=auth/munge',
    `AuthInfo=socket=${join(folder, 'munge.socket')}`,
    'ProctrackType=proctrack/linuxproc',
    'TaskPlugin=task/none',
    'JobAcctGatherType=jobacct_gather/none',
    'MpiDefault=none',
    'SelectType=select/cons_tres',
    'SelectTypeParameters=CR_CPU',
    'ReturnToService=2',
    `StateSaveLocation=${join(folder, 'state')}`,
    `SlurmdSpoolDir=${join(folder, 'spool')}`,
    `SlurmctldPidFile=${join(folder, 'slurmctld.pid')}`,
    `SlurmdPidFile=${join(folder, 'slurmd.pid')}`,
    `NodeName=node NodeHostname=${host} NodeAddr=127.0.0.1 CPUs=${processors} State=UNKNOWN`,
    'PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP',
    '',
  ].join('\n');
}

/** A Slurm of its own on this machine: one node, its daemons and their files in a folder, gone when it is disposed of. */
export class LocalSlurm implements AsyncDisposable {
  readonly #daemons: ChildProcess[] = [];
  readonly #folder: string;
  readonly #environment: Readonly<Record<string, string | undefined>>;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#environment = { ...process.env, PATH, SLURM_CONF: join(folder, 'slurm.conf') };
  }

  /**
   * Starts munged, slurmctld and slurmd, and waits until the node takes jobs.
   *
   * @param folder empty; every user must be able to enter it, and what it lies in
   */
  static async start(folder: string, processors: number): Promise<LocalSlurm> {
    if (process.getuid?.() !== 0) throw new Error('slurmd starts jobs as their users: run this as root');
    if (spawnSync('slurmctld', ['-V'], { env: { PATH } }).status !== 0) {
      throw new Error(`there is no Slurm here: apt-get install --no-install-recommends ${PACKAGES}`);
    }
    const slurm = new LocalSlurm(folder);
    try {
      await slurm.#start(processors);
      return slurm;
    } catch (error) {
      await slurm[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Version of Slurm, as `22.05.8`. */
  version(): string {
    return this.#run('sbatch', ['--version']).trim().replace(/^\S+ /, '');
  }

  /** Submits a script: its words, and the job's number. */
  submit(words: readonly string[]): string {
    return this.#run('sbatch', ['--parsable', ...words]).trim();
  }

  /** A job, or the tasks of an array. */
  jobs(job: string): SlurmJob[] {
    return parseJobs(this.#run('scontrol', ['--oneliner', 'show', 'job', job]));
  }

  /** Ends what runs of a task as preemption does, and puts it into the queue again, to begin at once. */
  async requeue(task: string): Promise<void> {
    this.#run('scontrol', ['requeue', task]);
    await this.#until(`${task} has ended`, () => this.jobs(task).every(({ state }) => state === 'PENDING'));
    this.#run('scontrol', ['update', `jobid=${task}`, 'StartTime=now']);
  }

  /** Waits until a job, or all tasks of an array, have ended. */
  async ended(job: string, patienceMs: number): Promise<SlurmJob[]> {
    const waiting = ['PENDING', 'CONFIGURING', 'RUNNING', 'COMPLETING', 'SUSPENDED'];
    const isOver = (): boolean => this.jobs(job).every(({ state }) => !waiting.includes(state));
    await this.#until(`job ${job} has ended`, isOver, patienceMs);
    return this.jobs(job);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The node before its controller, and munged, which both ask, at last.
    for (const daemon of this.#daemons.reverse()) {
      if (daemon.exitCode !== null) continue;
      const gone = new Promise((resolve) => daemon.once('close', resolve));
      daemon.kill('SIGTERM');
      await Promise.race([gone, sleep(PATIENCE_MS).then(() => daemon.kill('SIGKILL'))]);
    }
  }

  async #start(processors: number): Promise<void> {
    const at = (name: string): string => join(this.#folder, name);
    await Promise.all(['state', 'spool'].map((name) => mkdir(at(name))));
    await writeFile(at('munge.key'), crypto.getRandomValues(new Uint8Array(KEY_BYTES)), { mode: 0o600 });
    await writeFile(at('slurm.conf'), configuration(this.#folder, processors, [await freePort(), await freePort()]));
    const munge = ['socket', 'key-file', 'pid-file', 'log-file', 'seed-file'];
    const places = munge.map((name) => `--${name}=${at(`munge.${name.replace('-file', '')}`)}`);
    this.#daemon('munged', ['--foreground', ...places]);
    await this.#until('munged answers', () => this.#ask('munge', ['--no-input', `--socket=${at('munge.socket')}`]));
    this.#daemon('slurmctld', ['-D', '-i', '-f', at('slurm.conf')]);
    await this.#until('slurmctld answers', () => this.#ask('scontrol', ['ping']));
    this.#daemon('slurmd', ['-D', '-f', at('slurm.conf')]);
    const state = (): string => this.#run('sinfo', ['--noheader', '--format=%t']).trim();
    await this.#until('the node takes jobs', () => state() === 'idle');
  }

  #daemon(name: string, words: readonly string[]): void {
    const daemon = spawn(name, words, { env: this.#environment, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    const hear = (bytes: Buffer): void => {
      said = `${said}${bytes}`.slice(-LAST_WORDS);
    };
    daemon.stdout.on('data', hear);
    daemon.stderr.on('data', hear);
    daemon.on('error', (error) => process.stderr.write(`${name}: ${error.message}\n`));
    daemon.on('exit', (code) => {
      if (code !== 0 && code !== null) process.stderr.write(`${name} ended with ${code}: ${said}\n`);
    });
    this.#daemons.push(daemon);
  }

  #run(command: string, words: readonly string[]): string {
    return execFileSync(command, words, { env: this.#environment, encoding: 'utf8' });
  }

  #ask(command: string, words: readonly string[]): boolean {
    return spawnSync(command, words, { env: this.#environment }).status === 0;
  }

  async #until(what: string, isSo: () => boolean, patienceMs = PATIENCE_MS): Promise<void> {
    for (const end = performance.now() + patienceMs; !isSo(); await sleep(POLL_MS)) {
      if (this.#daemons.some(({ exitCode }) => exitCode !== null)) throw new Error(`a daemon ended before ${what}`);
      if (performance.now() > end) throw new Error(`waited ${patienceMs / 1000} s in vain until ${what}`);
    }
  }
}

/** Of what a daemon says, the last characters are kept, for when it ends too early. */
const LAST_WORDS = 4096;

/** JSON documents that a task's runs have printed into one file, one after another. */
export async function documentsIn(path: string): Promise<unknown[]> {
  const text = await readFile(path, 'utf8');
  return text.split(/^(?=\{$)/m).map((document) => JSON.parse(document));
}
