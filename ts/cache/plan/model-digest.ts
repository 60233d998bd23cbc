import { basename } from 'node:path';
import { type Progress, silentProgress } from '../../progress.ts';
import { canonicalJson, type Json } from '../canonical.ts';
import { sha256OfFile, sha256OfText } from '../data/digest.ts';
import type { EncoderDigest, ModelDigest } from './types.ts';

/** What one component of a model is loaded from. */
export interface ComponentFiles {
  /** The configuration as JSON: `config.json`, or what a single file's keys and shapes imply. */
  readonly config: string;
  /** What the loader reads: one file, or the shards that an index names. */
  readonly weights: readonly string[];
}

/** A text encoder's files. */
export interface EncoderFiles extends ComponentFiles {
  readonly tokenizer: readonly string[];
}

/** How long work reports and is interrupted. */
export interface DigestOptions {
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Digests of everything that fixes what a component computes. */
export async function digestComponent(files: ComponentFiles, options: DigestOptions = {}): Promise<ModelDigest> {
  return { weights: await digestFiles(files.weights, options), config: digestConfig(files.config) };
}

/** As {@link digestComponent}, with the tokenizer. */
export async function digestEncoder(files: EncoderFiles, options: DigestOptions = {}): Promise<EncoderDigest> {
  return { ...(await digestComponent(files, options)), tokenizer: await digestFiles(files.tokenizer, options) };
}

async function digestFiles(
  paths: readonly string[],
  { progress = silentProgress, signal }: DigestOptions,
): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const path of paths) {
    using _task = progress.start(`digest of ${path}`);
    digests[basename(path)] = await sha256OfFile(path, signal);
  }
  return digests;
}

/** Keys that begin with `_` say who saved the file, and with which version: they change nothing that is computed. */
function digestConfig(json: string): string {
  const config = JSON.parse(json) as Readonly<Record<string, Json>>;
  const kept = Object.entries(config).filter(([key]) => !key.startsWith('_'));
  return sha256OfText(canonicalJson(Object.fromEntries(kept)));
}
