import {
  componentFolder,
  type Engine,
  openModel,
  readPicture,
  readTensors,
  type Tensor,
  Vae,
  vaePath,
} from '../native/index.ts';
import { inFile } from './in-file.ts';

/** The VAE of a model, or another one in its place. */
async function openVae(engine: Engine, folder: string, other: string | undefined): Promise<Vae> {
  const model = await openModel(engine, folder);
  return Vae.open(engine, other === undefined ? componentFolder(model, 'vae') : vaePath(other), model.kind);
}

/** Scaled latents (the mean) of a picture file. */
export async function encodePicture(
  engine: Engine,
  folder: string,
  file: string,
  other?: string,
): Promise<{ latents: Tensor }> {
  const vae = await openVae(engine, folder, other);
  const pixels = await readPicture(engine, file);
  return inFile(file, 'Crop or scale it so that both sides are multiples of 8.', async () => {
    const latents = vae.encode(pixels);
    await latents.toArray();
    return { latents };
  });
}

/** Pixels, before clamping, of the tensor `latents` of a file. */
export async function decodeLatents(
  engine: Engine,
  folder: string,
  file: string,
  other?: string,
): Promise<{ decoded: Tensor }> {
  const vae = await openVae(engine, folder, other);
  const latents = (await readTensors(engine, file, ['latents'])).get('latents');
  if (latents === undefined) throw new RangeError('a tensor that was read is there');
  return inFile(file, "Store latents [B, channels, h, w] with the channels of the model's VAE.", async () => {
    const decoded = vae.decode(latents);
    await decoded.toArray();
    return { decoded };
  });
}
