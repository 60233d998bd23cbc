import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { inputError } from '../errors.ts';
import type { Context } from './command.ts';

/** `potstill cache verify --serve [PATH]`: serves the page until Ctrl-C. */
export async function serveVerifyPage(path: string | undefined, command: Command, context: Context): Promise<void> {
  const other = command.options.find(
    (option) =>
      !['serve', 'json'].includes(option.attributeName()) &&
      command.getOptionValueSource(option.attributeName()) === 'cli',
  );
  if (other !== undefined) {
    throw inputError('ERR_USAGE', `${other.long} and --serve exclude one another`, {
      where: other.long ?? '',
      remedy: 'Leave it out, and choose it on the page.',
    });
  }
  const [{ servePage }, { requireFolder }] = await Promise.all([
    import('../serve/index.ts'),
    import('../cache/index.ts'),
  ]);
  if (path !== undefined) requireFolder(path, '--serve');
  if (path !== undefined && (await stat(path).catch(() => undefined))?.isDirectory() !== true) {
    throw inputError('ERR_CACHE_MISSING', 'no such folder', { where: path, remedy: "Name the cache's folder." });
  }
  const server = await servePage({ cache: path });
  const offered = path === undefined ? '' : `, with ${path} on it`;
  context.result({ url: server.url }, () => `${server.url}\nThe page is there${offered}, until you press Ctrl-C.`);
  await new Promise<void>((done) => {
    if (context.signal.aborted) done();
    else context.signal.addEventListener('abort', () => done(), { once: true });
  });
  await server.close();
}
