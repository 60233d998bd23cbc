import {
  componentFolder,
  type Engine,
  openModel,
  readPicture,
  readTensors,
  type Tensor,
  Vae,
} from '../native/index.ts';
import { inFile } from './in-file.ts';

async function openVae(engine: Engine, folder: string): Promise<Vae> {
  return Vae.open(engine, componentFolder(await openModel(engine, folder), 'vae'));
}

/** Scaled latents (the mean) of a picture file. */
export async function encodePicture(engine: Engine, folder: string, file: string): Promise<{ latents: Tensor }> {
  const vae = await openVae(engine, folder);
  const pixels = await readPicture(engine, file);
  return inFile(file, 'Crop or scale it so that both sides are multiples of 8.', async () => {
    const latents = vae.encode(pixels);
    await latents.toArray();
    return { latents };
  });
}

/** Pixels, before clamping, of the tensor `latents` of a file. */
export async function decodeLatents(engine: Engine, folder: string, file: string): Promise<{ decoded: Tensor }> {
  const vae = await openVae(engine, folder);
  const latents = (await readTensors(engine, file, ['latents'])).get('latents');
  if (latents === undefined) throw new RangeError('a tensor that was read is there');
  return inFile(file, "Store latents [B, channels, h, w] with the channels of the model's VAE.", async () => {
    const decoded = vae.decode(latents);
    await decoded.toArray();
    return { decoded };
  });
}
