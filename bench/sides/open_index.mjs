// Opens the index of a cache with the built addon, as a training does: `node open_index.mjs CACHE TEACHER…`. Plain JavaScript,
// so that the memory of the process is the index's and Node's, and no compiler's.
import { addon, unwrap } from '../../dist/native/index.js';

const [cache, ...teachers] = process.argv.slice(2);
const { openCache } = addon();
const begun = performance.now();
const opened = unwrap(await openCache(cache, teachers));
const seconds = (performance.now() - begun) / 1000;
if (opened.waitedSeconds !== 0) throw new Error('opening reads no records');
process.stdout.write(`${JSON.stringify({ seconds })}\n`);
