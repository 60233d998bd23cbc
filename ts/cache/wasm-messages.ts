import type { PotstillError } from '../errors.ts';

/** What a verification's worker is to do. */
export interface VerifyRequest {
  /** The cache's folder. */
  readonly cache: string;
  /** The images of a cache in the files layout, as JSON. */
  readonly images: string | undefined;
  /** What to compute again, as JSON. */
  readonly recomputation: string | undefined;
}

/** What it says meanwhile and at the end. */
export type VerifyMessage =
  | { readonly kind: 'bytes'; readonly done: number; readonly total: number }
  | { readonly kind: 'entries'; readonly done: number; readonly total: number }
  | { readonly kind: 'report'; readonly json: string }
  /** An error on purpose, by its parts: a class does not survive the way between threads. */
  | { readonly kind: 'failure'; readonly error: ReturnType<PotstillError['toJSON']> };
