import { lstat, mkdir, rename, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { listFiles, modelInfo } from '@huggingface/hub';
import { inputError } from '../../errors.ts';
import { type Progress, silentProgress } from '../../progress.ts';
import { chooseFiles, type FileChoice } from './choose-files.ts';
import { download, type HubFile } from './download.ts';
import { hubError } from './errors.ts';
import type { HubSettings, Repository } from './settings.ts';

/** How to pull. */
export interface PullOptions extends FileChoice {
  readonly progress?: Progress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was pulled. */
export interface Pulled {
  /** What `--model` takes: the snapshot's folder, the file in it, or of a variant the folder that has it alone. */
  readonly model: string;
  readonly repository: string;
  readonly commit: string;
  readonly files: readonly { readonly path: string; readonly bytes: number; readonly downloaded: boolean }[];
}

/**
 * Folder of a repository's folder with links to the files of one variant: a snapshot, which all programs share, may have
 * others beside them, of which a reader takes the most exact ones.
 */
const VARIANTS = 'potstill-variants';

const COMMIT = /^[0-9a-f]{40}$/;
const SHA256 = /^[0-9a-f]{64}$/;

/**
 * Brings a model from the Hub into the Hugging Face cache of this machine, where every other program finds it, too.
 * What is there already, or was begun, is not downloaded again; every file's digest is checked before it gets its name.
 */
export async function pullModel(
  { name, revision }: Repository,
  hub: HubSettings,
  options: PullOptions = {},
): Promise<Pulled> {
  const { progress = silentProgress, signal } = options;
  const where = `${hub.url}/${name}`;
  const { commit, files } = await list(name, revision, hub, options, where);
  const root = join(hub.cacheDir, `models--${name.replace('/', '--')}`);
  const snapshot = join(root, 'snapshots', commit);
  const [only] = files;
  const single = files.length === 1 && only !== undefined && only.path.endsWith('.safetensors') ? only : undefined;
  const isVariant = options.variant !== undefined && single === undefined;
  const alone = isVariant ? join(root, VARIANTS, `${commit}.${options.variant}`) : undefined;
  const done: { path: string; bytes: number; downloaded: boolean }[] = [];
  using task = progress.start(`pulling ${name}`, {
    total: files.reduce((sum, { size }) => sum + size, 0),
    unit: 'bytes',
  });
  let before = 0;
  for (const file of files) {
    signal?.throwIfAborted();
    const blob = join(root, 'blobs', file.digest.hex);
    const present = (await stat(blob).catch(() => undefined))?.size === file.size;
    if (!present) {
      await mkdir(dirname(blob), { recursive: true });
      const url = `${hub.url}/${name}/resolve/${commit}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
      const onBytes = (bytes: number): void => task.set(before + bytes);
      try {
        await download(file, blob, { url, token: hub.token, signal, onBytes });
      } catch (thrown) {
        signal?.throwIfAborted();
        throw hubError(thrown, url);
      }
    }
    before += file.size;
    task.set(before);
    for (const place of alone === undefined ? [snapshot] : [snapshot, alone]) {
      await link(blob, join(place, ...file.path.split('/')));
    }
    done.push({ path: file.path, bytes: file.size, downloaded: !present });
  }
  if (!COMMIT.test(revision)) await writeRef(join(root, 'refs', ...revision.split('/')), commit);
  const model = single === undefined ? (alone ?? snapshot) : join(snapshot, ...single.path.split('/'));
  return { model, repository: name, commit, files: done };
}

/** The commit that a revision is now, and those of its files that are wanted. */
async function list(
  name: string,
  revision: string,
  hub: HubSettings,
  choice: FileChoice,
  where: string,
): Promise<{ commit: string; files: readonly HubFile[] }> {
  const access = { hubUrl: hub.url, ...(hub.token === undefined ? {} : { accessToken: hub.token }) };
  const entries = new Map<string, HubFile>();
  let commit: string;
  try {
    const { sha } = await modelInfo({ name, revision, additionalFields: ['sha'], ...access });
    commit = sha;
    for await (const { type, path, size, oid, lfs } of listFiles({
      repo: { type: 'model', name },
      recursive: true,
      revision: commit,
      ...access,
    })) {
      const hex = lfs?.oid ?? oid ?? '';
      // A name becomes part of a path: nothing may lead out of the snapshot.
      if (type !== 'file' || !isPlainPath(path)) continue;
      if (lfs === undefined ? COMMIT.test(hex) : SHA256.test(hex)) {
        entries.set(path, {
          path,
          size: lfs?.size ?? size,
          digest: { kind: lfs === undefined ? 'git' : 'sha256', hex },
        });
      }
    }
  } catch (thrown) {
    throw hubError(thrown, where);
  }
  if (!COMMIT.test(commit)) {
    throw inputError('ERR_HUB_NOT_FOUND', 'the Hub names no commit for this revision', {
      where,
      remedy: 'Check the revision after the @.',
    });
  }
  const files = chooseFiles([...entries.keys()], choice, where).flatMap((path) => entries.get(path) ?? []);
  return { commit, files };
}

function isPlainPath(path: string): boolean {
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && !/[\\:\0]/.test(part));
}

/** A snapshot's file is a relative link to its blob, as every Hugging Face program makes it. */
async function link(blob: string, path: string): Promise<void> {
  if ((await lstat(path).catch(() => undefined)) !== undefined) return;
  await mkdir(dirname(path), { recursive: true });
  await symlink(relative(dirname(path), blob), path);
}

async function writeRef(path: string, commit: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, commit, { flush: true });
  await rename(temporary, path);
}
