import type { PickedFile } from './files/picked.ts';

/** A cache: files that the user gave, or the address of one that the page's server offers. */
export type CacheInput =
  | { readonly name: string; readonly files: readonly PickedFile[] }
  | { readonly name: string; readonly served: string };

/** What the worker is to do; it answers with `VerifyMessage`s, as that of Node does. */
export interface PageRequest {
  readonly cache: CacheInput;
  /** The images of a cache in the files layout, as JSON. */
  readonly images: string | undefined;
  readonly recomputation: PageRecomputation | undefined;
}

/** What to compute again, and from what. */
export interface PageRecomputation {
  /** As JSON, with paths of {@link PageRecomputation.files}. */
  readonly request: string;
  /** Models and images. */
  readonly files: readonly PickedFile[];
}
