import { homedir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { userCache } from './user-cache.ts';

test("the user's cache is where the environment says, and at home where it says nothing", () => {
  expect(userCache({ XDG_CACHE_HOME: '/var/mine' })).toBe('/var/mine');
  expect(userCache({})).toBe(join(homedir(), '.cache'));
  // Not the working directory.
  expect(userCache({ XDG_CACHE_HOME: '' })).toBe(join(homedir(), '.cache'));
});
