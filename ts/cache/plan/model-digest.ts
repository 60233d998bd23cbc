import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { inputError } from '../../errors.ts';
import { type Progress, silentProgress } from '../../progress.ts';
import { canonicalJson, type Json } from '../canonical.ts';
import { sha256OfFile, sha256OfText } from '../data/digest.ts';
import type { EncoderDigest, ModelDigest } from './types.ts';

/** The files of one component of a model, as absolute paths. */
export interface ComponentFiles {
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
  return { weights: await digestFiles(files.weights, options), config: await digestConfig(files.config) };
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
async function digestConfig(path: string): Promise<string> {
  let config: unknown;
  try {
    config = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw inputError('ERR_MODEL_CONFIG', 'is not JSON', {
      where: path,
      remedy: 'Copy it from the original model.',
      cause,
    });
  }
  if (typeof config !== 'object' || config === null || Array.isArray(config)) {
    throw inputError('ERR_MODEL_CONFIG', 'is not a JSON object', {
      where: path,
      remedy: 'Copy it from the original model.',
    });
  }
  const kept = Object.entries(config as Record<string, Json>).filter(([key]) => !key.startsWith('_'));
  return sha256OfText(canonicalJson(Object.fromEntries(kept)));
}
