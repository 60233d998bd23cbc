import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A kind of damage, and what it is called by whoever verifies. */
export interface Damage {
  readonly what: string;
  /** Damages a copy. */
  readonly damage: (cache: string) => void | Promise<void>;
  /** Findings that name it: the part, and the code. */
  readonly named: readonly string[];
}

/** A copy of a cache, damaged; removed with its folder. */
export async function damagedCopy(
  cache: string,
  { damage }: Damage,
): Promise<Disposable & { readonly folder: string }> {
  const parent = mkdtempSync(join(tmpdir(), 'potstill-damaged-'));
  const folder = join(parent, 'cache');
  cpSync(cache, folder, { recursive: true });
  await damage(folder);
  return { folder, [Symbol.dispose]: () => rmSync(parent, { recursive: true, force: true }) };
}
