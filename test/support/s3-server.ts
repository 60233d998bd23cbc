import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { execute, type Outcome } from './execute.ts';
import { MAIN } from './potstill.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** Its only bucket. */
export const BUCKET = 'caches';

/** An S3 server of this machine: an example of potstill-s3, which cargo builds where its tests have not been run. */
export class S3Server implements Disposable {
  /** Address, and who may ask, as the environment says it. */
  readonly variables: Readonly<Record<string, string>>;
  readonly #child: ChildProcess;
  readonly #root: string;

  private constructor(child: ChildProcess, root: string, line: string) {
    const [url = '', key = '', secret = ''] = line.split(' ');
    this.#child = child;
    this.#root = root;
    this.variables = {
      AWS_ENDPOINT_URL: url,
      AWS_ALLOW_HTTP: 'true',
      AWS_ACCESS_KEY_ID: key,
      AWS_SECRET_ACCESS_KEY: secret,
    };
  }

  static async start(): Promise<S3Server> {
    const root = mkdtempSync(join(tmpdir(), 'potstill-s3-'));
    mkdirSync(join(root, BUCKET));
    const { stdout } = await execute('rustc', ['-vV'], ROOT);
    const [, platform = ''] = /^host: (.+)$/m.exec(stdout) ?? [];
    const cargo = ['run', '--quiet', '--release', '--locked', '--target', platform, '-p', 'potstill-s3'];
    const child = spawn('cargo', [...cargo, '--example', 's3_server', '--', root], {
      cwd: ROOT,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: child.stdout })) return new S3Server(child, root, line);
    throw new Error('the S3 server did not start');
  }

  /** Where the objects below a prefix lie. */
  folder(prefix: string): string {
    return join(this.#root, BUCKET, prefix);
  }

  /** Runs the built command line with the server's variables, changed by `others`. */
  potstill(words: readonly string[], others: Readonly<Record<string, string>> = {}): Promise<Outcome> {
    const variables = Object.entries({ ...this.variables, ...others }).map(([name, value]) => `${name}=${value}`);
    // Nothing of this machine's own.
    const foreign = Object.keys(process.env).filter((name) => /^AWS_|_proxy$/i.test(name));
    const without = foreign.flatMap((name) => ['-u', name]);
    return execute('env', [...without, ...variables, process.execPath, MAIN, ...words], ROOT);
  }

  [Symbol.dispose](): void {
    // It ends with its input.
    this.#child.stdin?.end();
    rmSync(this.#root, { recursive: true, force: true });
  }
}
