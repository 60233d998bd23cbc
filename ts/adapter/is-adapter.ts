import { inspectTensors } from '../native/index.ts';

/** Ends of keys that no checkpoint has. */
const ENDINGS = /\.(?:lora_(?:up|down|A|B|mid)(?:\.|$)|lora\.(?:up|down)\.|hada_w|lokr_w|diff(?:_b)?$|dora_scale$)/;

/** Whether a safetensors file holds an adapter rather than a model: by its keys. */
export async function isAdapterFile(path: string): Promise<boolean> {
  if (!path.endsWith('.safetensors')) return false;
  const { tensors } = await inspectTensors(path);
  return tensors.some(({ name }) => ENDINGS.test(name));
}
