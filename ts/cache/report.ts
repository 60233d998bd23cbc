/** How bad a finding is: an error contradicts the cache's plan, a warning is unusual. */
export type Severity = 'error' | 'warning';

/** One thing that is not as it should be. */
export interface Finding {
  /** `latents`, `text` or `teachers/<id>`; of the files layout the teacher's folder, `.` for the cache itself. */
  readonly component: string;
  /** The file, relative to the cache; empty when it is about no single file. */
  readonly file: string;
  /** Stable name of the kind. */
  readonly code: string;
  /** The record, or the record and field; empty when it is about no single record. */
  readonly entry: string;
  readonly severity: Severity;
  readonly expected: string;
  readonly found: string;
  /** Whether training on the cache would go wrong. */
  readonly training: boolean;
  readonly remedy: string;
}

/** A component that was looked at. */
export interface VerifiedComponent {
  readonly component: string;
  /** SHA-256 of the plan and of the seal; empty when there is none. */
  readonly plan: string;
  readonly seal: string;
  /** Records planned; of the files layout, files. */
  readonly records: number;
  /** Shards planned; none in the files layout. */
  readonly shards: number;
  /** Bytes read. */
  readonly bytes: number;
}

/** Predictions of a range of timesteps, all records together. */
export interface Band {
  readonly from: number;
  readonly to: number;
  readonly count: number;
  /** Root mean square. */
  readonly rms: number;
  /** Correlation with what a perfect teacher would predict. */
  readonly correlation: number;
  /** Slope of the regression of the perfect prediction on the teacher's: near 1 for a trained teacher. */
  readonly calibration: number;
}

/** What the entries of a teacher in the files layout tell of their making. */
export interface Provenance {
  readonly component: string;
  /** Generators of the noise, the most frequent first: `torch-cpu-avx2`, `torch-cuda, rounded to bf16`, `unknown` … */
  readonly noise: readonly { readonly noise: string; readonly entries: number }[];
  /** Half-open range that the timesteps were drawn from, where it is recognised. */
  readonly timesteps: readonly [from: number, to: number] | null;
  /** What the seeds were made from. */
  readonly seeds: 'image' | 'image and teacher' | 'image, view and draw' | 'unknown';
}

/** What recomputation of one component found. */
export interface RecomputedComponent {
  readonly component: string;
  /** Entries there are: views, captions, predictions. */
  readonly entries: number;
  /** Entries that were computed again and compared. */
  readonly compared: number;
  /** Of them, those that differ or cannot be read. */
  readonly wrong: number;
  /** How much may differ: root mean square of the difference over that of the values. */
  readonly tolerance: number;
  /** The greatest such difference among the entries that are right. */
  readonly difference: number;
  /** How many entries could be wrong though all that were compared are right, with 99 % confidence. */
  readonly undetected: number;
}

/** What recomputation found. */
export interface Recomputation {
  /** With it the same entries are drawn again. */
  readonly nonce: string;
  /** Entries asked for, of every component. */
  readonly entries: number;
  readonly components: readonly RecomputedComponent[];
  /** Components that were not computed again, and why. */
  readonly omitted: readonly { readonly component: string; readonly reason: string }[];
}

/** What verification found. It holds no paths, times or machines: the same cache gives the same bytes everywhere. */
export interface VerificationReport {
  readonly format: 'potstill-verification';
  readonly version: number;
  /** Absent for shards. */
  readonly layout?: 'files';
  /** 1: structure; 2: also determinism; 3: also recomputation. */
  readonly level: number;
  readonly verdict: 'ok' | 'damaged';
  readonly components: readonly VerifiedComponent[];
  /** How often each code was found, by component. */
  readonly counts: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** At most 50 of a code and component. */
  readonly findings: readonly Finding[];
  readonly statistics: readonly {
    readonly component: string;
    readonly field: string;
    readonly bands: readonly Band[];
  }[];
  /** Of the files layout alone. */
  readonly provenance?: readonly Provenance[];
  /** Of level 3 alone. Differences depend on the kernels; the verdict does not. */
  readonly recomputation?: Recomputation;
}
