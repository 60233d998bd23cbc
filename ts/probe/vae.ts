import { PotstillError } from '../errors.ts';
import {
  componentFolder,
  type Engine,
  openModel,
  readPicture,
  readTensors,
  type Tensor,
  Vae,
} from '../native/index.ts';

async function openVae(engine: Engine, folder: string): Promise<Vae> {
  return Vae.open(engine, componentFolder(await openModel(engine, folder), 'vae'));
}

/** Scaled latents (the mean) of a picture file. */
export async function encodePicture(engine: Engine, folder: string, file: string): Promise<{ latents: Tensor }> {
  const vae = await openVae(engine, folder);
  const pixels = await readPicture(engine, file);
  try {
    const latents = vae.encode(pixels);
    await engine.settled();
    return { latents };
  } catch (thrown) {
    if (!(thrown instanceof PotstillError)) throw thrown;
    throw new PotstillError({ ...thrown.toJSON(), where: file, cause: thrown });
  }
}

/** Pixels, before clamping, of the tensor `latents` of a file. */
export async function decodeLatents(engine: Engine, folder: string, file: string): Promise<{ decoded: Tensor }> {
  const vae = await openVae(engine, folder);
  const latents = (await readTensors(engine, file, ['latents'])).get('latents');
  if (latents === undefined) throw new RangeError('a tensor that was read is there');
  return { decoded: vae.decode(latents) };
}
