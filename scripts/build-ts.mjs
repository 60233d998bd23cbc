// `npm run build`: TypeScript alone, while working on it. Set-up does the rest.
import { buildTypeScript } from './lib/build-ts.mjs';
import { reportFailure } from './setup.mjs';

process.exitCode = await buildTypeScript().then(() => 0, reportFailure);
