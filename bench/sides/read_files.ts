/** What the disk gives: every file of a folder read and thrown away, by so many `cat`: `read_files.ts FOLDER PROCESSES`. */
import { execFileSync } from 'node:child_process';
import { dropPageCache } from '../lib/drop-page-cache.ts';
import { serve } from '../lib/serve.ts';

const [folder = '', processes = '1'] = process.argv.slice(2);
/** Files of one `cat`. */
const AT_ONCE = 32;

await serve({}, async () => {
  const files = execFileSync('find', [folder, '-type', 'f', '-print0']);
  dropPageCache();
  const start = performance.now();
  const words = ['-0', '-P', processes, '-n', String(AT_ONCE), 'cat'];
  execFileSync('xargs', words, { input: files, stdio: ['pipe', 'ignore', 'inherit'] });
  return (performance.now() - start) / 1000;
});
