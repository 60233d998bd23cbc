import { openAsBlob } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { checkRepoAccess, createRepo, uploadFiles } from '@huggingface/hub';
import { inputError } from '../../errors.ts';
import { type Progress, silentProgress } from '../../progress.ts';
import { hubError } from './errors.ts';
import type { HubSettings, Repository } from './settings.ts';

/** How to push. */
export interface PushOptions {
  /** Of a repository that does not exist yet. */
  readonly private?: boolean | undefined;
  readonly message?: string | undefined;
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was pushed. */
export interface Pushed {
  readonly repository: string;
  readonly url: string;
  /** The commit on the Hub, when it says one. */
  readonly commit: string | undefined;
  readonly files: readonly string[];
  readonly created: boolean;
}

/** Files that make a model; what else lies in a folder stays at home. */
const PUSHED = /\.(safetensors|json|txt|md)$/;

/** Uploads a model, a folder or a single file, in one commit. The repository is made when it does not exist. */
export async function pushModel(
  path: string,
  { name, revision }: Repository,
  hub: HubSettings,
  options: PushOptions = {},
): Promise<Pushed> {
  const { progress = silentProgress, signal } = options;
  if (hub.token === undefined) {
    throw inputError('ERR_HUB_REFUSED', 'pushing needs a token', {
      where: `${hub.url}/${name}`,
      remedy: 'Set HF_TOKEN to a token that may write.',
    });
  }
  const files = await filesOf(path);
  const repo = { type: 'model', name } as const;
  const access = { hubUrl: hub.url, accessToken: hub.token };
  using task = progress.start(`pushing ${files.length} files to ${name}`);
  try {
    const created = await makeRepository(repo, options, access);
    task.note('uploading');
    const content = await Promise.all(
      files.map(async ({ file, target }) => ({ path: target, content: await openAsBlob(file) })),
    );
    const committed = await uploadFiles({
      repo,
      files: content,
      commitTitle: options.message ?? `Upload ${basename(path)} with potstill`,
      branch: revision,
      ...access,
      ...(signal === undefined ? {} : { abortSignal: signal }),
    });
    const commit = committed?.commit.oid;
    return { repository: name, url: `${hub.url}/${name}`, commit, files: files.map((f) => f.target), created };
  } catch (thrown) {
    signal?.throwIfAborted();
    throw hubError(thrown, `${hub.url}/${name}`);
  }
}

async function makeRepository(
  repo: { readonly type: 'model'; readonly name: string },
  options: PushOptions,
  access: { readonly hubUrl: string; readonly accessToken: string },
): Promise<boolean> {
  try {
    await checkRepoAccess({ repo, ...access });
    return false;
  } catch (thrown) {
    if (!(thrown instanceof Error) || !('statusCode' in thrown) || thrown.statusCode !== 404) throw thrown;
  }
  await createRepo({ repo, visibility: options.private === true ? 'private' : 'public', ...access });
  return true;
}

async function filesOf(path: string): Promise<readonly { readonly file: string; readonly target: string }[]> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    throw inputError('ERR_MODEL_FILE', 'no such file or folder', { where: path, remedy: 'Check the path.' });
  }
  if (!found.isDirectory()) return [{ file: path, target: basename(path) }];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && PUSHED.test(entry.name) && !entry.name.startsWith('.'))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((file) => ({ file, target: file.slice(path.replace(/\/+$/, '').length + 1).replaceAll('\\', '/') }))
    .sort((a, b) => (a.target < b.target ? -1 : 1));
  if (files.some(({ target }) => target.endsWith('.safetensors'))) return files;
  throw inputError('ERR_MODEL_FILE', 'has no safetensors file in it', {
    where: path,
    remedy: "Give a model's folder or single file.",
  });
}
