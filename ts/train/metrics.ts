import { appendFileSync } from 'node:fs';
import { type FileHandle, open, readFile } from 'node:fs/promises';

/** One line of `metrics.jsonl`. Fields with a slash are one per teacher or per validation figure. */
export interface StepMetrics {
  /** Number of the finished update, from 1. */
  readonly step: number;
  readonly loss: number;
  readonly lr: number;
  /** L2 norm over all gradients before clipping. */
  readonly gradNorm: number;
  readonly secondsPerStep: number;
  /** Samples seen since the run began. */
  readonly samples: number;
  /** `loss/<teacher>`, `validation/<figure>`. */
  readonly [figure: `${string}/${string}`]: number;
}

/** Appends metrics to a run's `metrics.jsonl`; a line is written whole or, after a crash, cut off by the next resume. */
export class MetricsLog {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /**
   * Opens the log and drops what was logged after `step`, so that a resumed run's log has each step once.
   *
   * @param step last step to keep; 0 starts an empty log
   */
  static async open(path: string, step: number): Promise<MetricsLog> {
    const file = await open(path, 'a+');
    await file.truncate(lengthThrough(await file.readFile(), step));
    return new MetricsLog(file);
  }

  /** Appends one step; at once, for handing a line to another thread and waiting for that takes longer than writing it. */
  append(metrics: StepMetrics): void {
    appendFileSync(this.#file.fd, `${JSON.stringify(metrics)}\n`);
  }

  /** Makes what was appended durable: called before a checkpoint that counts on it. */
  async sync(): Promise<void> {
    await this.#file.sync();
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** Bytes of the log up to and with the last whole line of a step not beyond `step`. */
function lengthThrough(bytes: Buffer, step: number): number {
  let kept = 0;
  while (kept < bytes.length) {
    const end = bytes.indexOf(0x0a, kept);
    if (end < 0) break;
    const logged = stepOf(bytes.toString('utf8', kept, end));
    if (logged === undefined || logged > step) break;
    kept = end + 1;
  }
  return kept;
}

function stepOf(line: string): number | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && 'step' in value && typeof value.step === 'number'
      ? value.step
      : undefined;
  } catch {
    return undefined;
  }
}

/** All whole lines of a `metrics.jsonl`; an unfinished last line of a running or killed run is left out. */
export async function readMetrics(path: string): Promise<StepMetrics[]> {
  const text = await readFile(path, 'utf8');
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as StepMetrics);
}
