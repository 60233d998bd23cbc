import type { Evaluation } from '../evaluate/evaluation.ts';
import type { StepMetrics } from '../train/metrics.ts';

/** Pictures made while training, at one step. */
export interface StepSamples {
  readonly step: number;
  readonly images: readonly { readonly name: string; readonly png: Uint8Array }[];
}

/** What verification said of a cache, or of a damaged copy of one. */
export interface VerificationRow {
  readonly subject: string;
  /** What verification should find here: nothing in a good cache, something in a damaged copy. */
  readonly expected: 'clean' | 'damage';
  readonly entries: number;
  /** Codes of the errors found, without repetition; what is merely unusual is left out. */
  readonly findings: readonly string[];
  /** Whether the report of the WASM module equals the native one byte for byte; null when only one ran. */
  readonly wasmEqual: boolean | null;
  readonly seconds: { readonly native: number; readonly wasm: number | null };
}

/** Everything that a report shows: read from a run's folder, missing parts left out. */
export interface RunReport {
  readonly name: string;
  readonly recipe: Readonly<Record<string, unknown>>;
  readonly metrics: readonly StepMetrics[];
  readonly samples: readonly StepSamples[];
  readonly verification: readonly VerificationRow[];
  readonly evaluation?: Evaluation;
  /** PNG bytes of the evaluation's pictures by their file name. */
  readonly pictures: ReadonlyMap<string, Uint8Array>;
  /** Seconds that each stage took, in order. */
  readonly stages: readonly { readonly name: string; readonly seconds: number }[];
  /** potstill's version and the machine, as one line. */
  readonly madeBy: string;
}
