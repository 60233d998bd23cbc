import { SERVED_ROOT, type ServedCache } from '../serve/protocol.ts';
import type { CacheInput } from './messages.ts';

/** What a key looks like, behind the `#` of the page's address. */
const KEY = /^#([0-9a-f]{32})$/;

/** The cache that the page's server offers, if it was started with one. */
export async function offeredCache(): Promise<CacheInput | undefined> {
  const [, key] = KEY.exec(location.hash) ?? [];
  if (key === undefined) return undefined;
  const served = new URL(`${SERVED_ROOT}${key}/`, location.href).href;
  const response = await fetch(`${served}about`).catch(() => undefined);
  if (response?.ok !== true) return undefined;
  const { name } = (await response.json()) as ServedCache;
  return { name, served };
}
