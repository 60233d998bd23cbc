import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';

/** Whether an adapter is at a path rather than a model: a safetensors file, by its keys, or a folder as peft saves it. */
export async function isAdapter(path: string): Promise<boolean> {
  return unwrap(await addon().isAdapter(path));
}
