import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * The folder that a user's programs keep what can be had again in: `XDG_CACHE_HOME`, else `.cache` in the home.
 *
 * @see {@link https://specifications.freedesktop.org/basedir-spec/latest/ the specification}: a variable that is set to
 *   nothing is as one that is not set
 */
export function userCache(environment: NodeJS.ProcessEnv): string {
  return environment['XDG_CACHE_HOME'] || join(homedir(), '.cache');
}
