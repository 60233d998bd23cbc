import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PotstillError } from '../../errors.ts';
import { chooseFiles } from './choose-files.ts';
import { pullModel } from './pull.ts';
import { pushModel } from './push.ts';
import { type HubSettings, hubSettings, parseRepository } from './settings.ts';

const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const WEIGHTS = Buffer.alloc(300_000, 'weights ');

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const gitDigest = (bytes: Buffer): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

/** A local server that answers as the Hub does, for one repository. */
class Hub {
  readonly files = new Map<string, Buffer>();
  readonly requests: string[] = [];
  /** What is sent instead of a file. */
  readonly damaged = new Map<string, Buffer>();
  /** The connection of a file's first request ends after this many bytes, once they have arrived. */
  cut: { readonly after: number; readonly arrived: () => Promise<void> } | undefined;
  token: string | undefined;
  readonly committed: { path: string; content: string }[] = [];
  readonly uploaded = new Map<string, Buffer>();
  exists = true;
  readonly #server: Server = createServer((request, response) => {
    this.#answer(request, response).catch(() => response.destroy());
  });

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', `http://${request.headers.host}`);
    this.requests.push(
      `${request.method} ${url.pathname}${request.headers.range === undefined ? '' : ` ${request.headers.range}`}`,
    );
    const json = (value: unknown, status = 200): void => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    // Uploads go to addresses that carry their own permission.
    const signed = url.pathname.startsWith('/upload/');
    if (!signed && this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`) {
      json({ error: 'Unauthorized' }, 401);
      return;
    }
    const body = async (): Promise<Buffer> => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks);
    };
    const path = url.pathname;
    if (path.startsWith('/api/models/me/model/revision/')) {
      json({ _id: '1', id: 'me/model', sha: COMMIT, lastModified: '2026-01-01T00:00:00Z' });
    } else if (path.startsWith('/api/models/me/model/tree/')) {
      json([...this.files].map(([name, bytes]) => entry(name, bytes)));
    } else if (path.startsWith(`/me/model/resolve/${COMMIT}/`)) {
      this.#send(decodeURIComponent(path.slice(`/me/model/resolve/${COMMIT}/`.length)), request, response);
    } else if (path === '/api/repos/create') {
      this.exists = true;
      json({ url: 'http://hub/me/model', id: '1' });
    } else if (path.startsWith('/api/models/me/model/preupload/')) {
      const { files } = JSON.parse((await body()).toString()) as { files: { path: string }[] };
      json({
        files: files.map((file) => ({ ...file, uploadMode: file.path.endsWith('.safetensors') ? 'lfs' : 'regular' })),
      });
    } else if (path === '/me/model.git/info/lfs/objects/batch') {
      const { objects } = JSON.parse((await body()).toString()) as { objects: { oid: string; size: number }[] };
      const base = `http://${request.headers.host}`;
      json({
        transfer: 'basic',
        objects: objects.map(({ oid, size }) => ({
          oid,
          size,
          actions: { upload: { href: `${base}/upload/${oid}` } },
        })),
      });
    } else if (path.startsWith('/upload/')) {
      this.uploaded.set(path.slice('/upload/'.length), await body());
      response.end();
    } else if (path.startsWith('/api/models/me/model/commit/')) {
      for (const line of (await body()).toString().trim().split('\n')) {
        const { key, value } = JSON.parse(line) as { key: string; value: Record<string, string> };
        if (key === 'header') continue;
        const { path: target = '', content = '', oid = '' } = value;
        const text = key === 'lfsFile' ? oid : Buffer.from(content, 'base64').toString();
        this.committed.push({ path: target, content: text });
      }
      json({ commitOid: COMMIT, commitUrl: 'http://hub/commit', hookOutput: '' });
    } else if (path === '/api/models/me/model') {
      json(this.exists ? { _id: '1', id: 'me/model' } : { error: 'Repository not found' }, this.exists ? 200 : 404);
    } else {
      json({ error: 'Not found' }, 404);
    }
  }

  #send(name: string, request: IncomingMessage, response: ServerResponse): void {
    const bytes = this.damaged.get(name) ?? this.files.get(name);
    if (bytes === undefined) {
      response.writeHead(404).end();
      return;
    }
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': bytes.length - from });
    const { cut } = this;
    if (cut === undefined) {
      response.end(bytes.subarray(from));
      return;
    }
    this.cut = undefined;
    response.write(bytes.subarray(from, from + cut.after));
    cut.arrived().then(() => response.destroy());
  }
}

function entry(path: string, bytes: Buffer): object {
  const common = { type: 'file', path, size: bytes.length, oid: gitDigest(bytes) };
  if (!path.endsWith('.safetensors')) return common;
  return { ...common, lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 } };
}

let hub: Hub;
let folder: string;
let settings: HubSettings;

beforeEach(async () => {
  hub = new Hub();
  folder = await mkdtemp(join(tmpdir(), 'potstill-hub-'));
  settings = { url: await hub.start(), cacheDir: join(folder, 'cache'), token: undefined };
  hub.files.set('model_index.json', Buffer.from('{}'));
  hub.files.set('unet/config.json', Buffer.from('{"a": 1}'));
  hub.files.set('unet/diffusion_pytorch_model.safetensors', WEIGHTS);
  hub.files.set('unet/diffusion_pytorch_model.bin', Buffer.from('pickle'));
});

afterEach(async () => {
  await hub.stop();
  await rm(folder, { recursive: true });
});

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const thrown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  return thrown instanceof PotstillError ? thrown.code : `no PotstillError: ${String(thrown)}`;
}

const pull = (revision = 'main') => pullModel({ name: 'me/model', revision }, settings);

test('a pull fills the shared cache as every Hugging Face program does, and a second one downloads nothing', async () => {
  const pulled = await pull();
  const root = join(settings.cacheDir, 'models--me--model');
  expect(pulled.model).toBe(join(root, 'snapshots', COMMIT));
  expect(pulled.files.map(({ path }) => path)).toEqual([
    'model_index.json',
    'unet/config.json',
    'unet/diffusion_pytorch_model.safetensors',
  ]);
  expect((await readFile(join(pulled.model, 'unet/diffusion_pytorch_model.safetensors'))).equals(WEIGHTS)).toBe(true);
  expect(await readlink(join(pulled.model, 'unet/diffusion_pytorch_model.safetensors'))).toBe(
    `../../../blobs/${sha256(WEIGHTS)}`,
  );
  expect(await readFile(join(root, 'refs/main'), 'utf8')).toBe(COMMIT);
  hub.requests.length = 0;
  const again = await pull();
  expect(again.files.every(({ downloaded }) => !downloaded)).toBe(true);
  expect(hub.requests.some((request) => request.includes('/resolve/'))).toBe(false);
});

test('a variant is what is loaded, whatever was pulled before', async () => {
  const half = Buffer.from('half the bytes');
  hub.files.set('unet/diffusion_pytorch_model.fp16.safetensors', half);
  const variant = () => pullModel({ name: 'me/model', revision: 'main' }, settings, { variant: 'fp16' });
  const first = await variant();
  const plain = await pull();
  const again = await variant();
  const root = join(settings.cacheDir, 'models--me--model');
  expect(plain.model).toBe(join(root, 'snapshots', COMMIT));
  expect(again.model).toBe(first.model);
  expect(again.files.every(({ downloaded }) => !downloaded)).toBe(true);
  const weights = (model: string) => readdir(join(model, 'unet'));
  expect((await weights(again.model)).sort()).toEqual(['config.json', 'diffusion_pytorch_model.fp16.safetensors']);
  expect(await weights(plain.model)).toContain('diffusion_pytorch_model.safetensors');
  const file = join(again.model, 'unet/diffusion_pytorch_model.fp16.safetensors');
  expect((await readFile(file)).equals(half)).toBe(true);
  // Other programs find it in the snapshot as well.
  expect(await weights(plain.model)).toContain('diffusion_pytorch_model.fp16.safetensors');
});

test('an interrupted download goes on where it stopped', async () => {
  hub.files.clear();
  hub.files.set('model.safetensors', WEIGHTS);
  const incomplete = `${join(settings.cacheDir, 'models--me--model/blobs', sha256(WEIGHTS))}.incomplete`;
  const size = async (): Promise<number> => (await stat(incomplete).catch(() => ({ size: 0 }))).size;
  hub.cut = {
    after: 100_000,
    arrived: async () => {
      while ((await size()) === 0) await sleep(10);
    },
  };
  expect(await codeOf(pull())).toBe('ERR_HUB_UNREACHABLE');
  const there = await size();
  expect(there).toBeGreaterThan(0);
  expect(there).toBeLessThan(WEIGHTS.length);
  const pulled = await pull();
  expect(hub.requests.at(-1)).toBe(`GET /me/model/resolve/${COMMIT}/model.safetensors bytes=${there}-`);
  expect(pulled.model.endsWith(`snapshots/${COMMIT}/model.safetensors`)).toBe(true);
  expect((await readFile(pulled.model)).equals(WEIGHTS)).toBe(true);
});

test('content that is not what the listing says is refused and not kept', async () => {
  for (const [path, bytes] of [
    ['unet/diffusion_pytorch_model.safetensors', Buffer.alloc(WEIGHTS.length, 'x')],
    ['unet/config.json', Buffer.from('{"a": 2}')],
    ['unet/config.json', Buffer.from('{"a": 1} and more')],
  ] as const) {
    hub.damaged.clear();
    hub.damaged.set(path, bytes);
    settings = { ...settings, cacheDir: await mkdtemp(join(folder, 'cache-')) };
    expect(await codeOf(pull())).toBe('ERR_HUB_DIGEST');
  }
  hub.damaged.clear();
  expect((await pull()).files).toHaveLength(3);
});

test('what the Hub refuses or does not have is said', async () => {
  hub.token = 'hf_secret';
  expect(await codeOf(pull())).toBe('ERR_HUB_REFUSED');
  settings = { ...settings, token: 'hf_secret' };
  expect((await pull()).commit).toBe(COMMIT);
  expect(await codeOf(pullModel({ name: 'me/other', revision: 'main' }, settings))).toBe('ERR_HUB_NOT_FOUND');
  await hub.stop();
  expect(await codeOf(pull())).toBe('ERR_HUB_UNREACHABLE');
  await hub.start();
});

test('names that lead out of the cache are not written', async () => {
  hub.files.set('unet/../../../evil.safetensors', Buffer.from('x'));
  hub.files.set('tokenizer/..', Buffer.from('x'));
  const pulled = await pull();
  expect(pulled.files.map(({ path }) => path).join(' ')).not.toContain('..');
  expect(() => parseRepository('../x')).toThrow('is no repository');
  expect(() => parseRepository('a/b@../../x')).toThrow('is no repository');
  expect(parseRepository('a/b@v1.0')).toEqual({ name: 'a/b', revision: 'v1.0' });
});

test('of a folder only what is read is chosen, of several files none by itself', () => {
  const paths = [
    'README.md',
    'model_index.json',
    'scheduler/scheduler_config.json',
    'tokenizer/vocab.json',
    'text_encoder/config.json',
    'text_encoder/model.safetensors',
    'text_encoder/model.fp16.safetensors',
    'text_encoder/pytorch_model.bin',
    'unet/config.json',
    'unet/diffusion_pytorch_model-00001-of-00002.safetensors',
    'unet/diffusion_pytorch_model-00002-of-00002.safetensors',
    'unet/diffusion_pytorch_model.safetensors.index.json',
    'unet/diffusion_pytorch_model.fp16.safetensors',
    'unet/diffusion_pytorch_model.non_ema.safetensors',
    'vae_1_0/diffusion_pytorch_model.safetensors',
    'sd_xl_base_1.0.safetensors',
  ];
  const small = ['model_index.json', 'scheduler/scheduler_config.json', 'tokenizer/vocab.json'];
  expect(chooseFiles(paths, {}, 'x')).toEqual([
    ...small,
    'unet/config.json',
    'unet/diffusion_pytorch_model-00001-of-00002.safetensors',
    'unet/diffusion_pytorch_model-00002-of-00002.safetensors',
    'unet/diffusion_pytorch_model.safetensors.index.json',
    'text_encoder/config.json',
    'text_encoder/model.safetensors',
  ]);
  expect(chooseFiles(paths, { variant: 'fp16' }, 'x')).toEqual([
    ...small,
    'unet/config.json',
    'unet/diffusion_pytorch_model.fp16.safetensors',
    'text_encoder/config.json',
    'text_encoder/model.fp16.safetensors',
  ]);
  expect(chooseFiles(paths, { file: 'sd_xl_base_1.0.safetensors' }, 'x')).toEqual(['sd_xl_base_1.0.safetensors']);
  expect(() => chooseFiles(['a.safetensors', 'b.safetensors'], {}, 'x')).toThrow('several checkpoints');
  expect(() => chooseFiles(['model.ckpt'], {}, 'x')).toThrow('neither a diffusers model nor safetensors');
  expect(() => chooseFiles(['model_index.json', 'unet/config.json', 'unet/pytorch_model.bin'], {}, 'x')).toThrow(
    'unet has no safetensors weights',
  );
});

test('a push makes the repository and uploads a model in one commit', async () => {
  hub.token = 'hf_secret';
  const file = join(folder, 'model.safetensors');
  await writeFile(file, WEIGHTS);
  const repository = { name: 'me/model', revision: 'main' };
  expect(await codeOf(pushModel(file, repository, settings))).toBe('ERR_HUB_REFUSED');
  settings = { ...settings, token: 'hf_secret' };
  expect(await codeOf(pushModel(join(folder, 'none'), repository, settings))).toBe('ERR_MODEL_FILE');
  hub.exists = false;
  const pushed = await pushModel(file, repository, settings, { message: 'A model' });
  expect(pushed).toMatchObject({ created: true, commit: COMMIT, files: ['model.safetensors'] });
  expect(hub.uploaded.get(sha256(WEIGHTS))?.equals(WEIGHTS)).toBe(true);
  expect(hub.committed).toEqual([{ path: 'model.safetensors', content: sha256(WEIGHTS) }]);
});

test('settings come from the environment that every Hugging Face program reads', async () => {
  const home = join(folder, 'home');
  expect(await hubSettings({ HF_HOME: home })).toEqual({
    url: 'https://huggingface.co',
    cacheDir: join(home, 'hub'),
    token: undefined,
  });
  expect(
    await hubSettings({ HF_HOME: home, HF_HUB_CACHE: '/c', HF_TOKEN: ' hf_t ', HF_ENDPOINT: 'http://h/' }),
  ).toEqual({
    url: 'http://h',
    cacheDir: '/c',
    token: 'hf_t',
  });
  const nothing = { XDG_CACHE_HOME: '', HF_HOME: '', HF_HUB_CACHE: '', HF_TOKEN: 'hf_t', HF_ENDPOINT: '' };
  expect(await hubSettings(nothing)).toEqual({
    url: 'https://huggingface.co',
    cacheDir: join(homedir(), '.cache/huggingface/hub'),
    token: 'hf_t',
  });
  expect(await codeOf(hubSettings({ HF_HOME: home, HF_TOKEN: 'mine' }))).toBe('ERR_HUB_REFUSED');
});
