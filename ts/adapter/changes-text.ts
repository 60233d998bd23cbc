import { inspectAdapter } from './inspect.ts';

/**
 * Whether an adapter does something to text encoders.
 *
 * @param model the model that it is for
 * @throws PotstillError as {@link inspectAdapter}
 */
export async function changesText(path: string, model: string): Promise<boolean> {
  const { modules } = await inspectAdapter(path, model);
  return modules.some(({ name }) => !name.startsWith('unet.'));
}
