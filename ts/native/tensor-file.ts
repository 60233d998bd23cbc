import { inputError } from '../errors.ts';
import type { Engine } from './engine.ts';
import type { TensorFile } from './generated/binding.js';
import { addon } from './load.ts';
import { unwrap } from './outcome.ts';
import { Tensor } from './tensor.ts';

/** The names, types, shapes and metadata of a safetensors file. Only its header is read, and trusted in nothing. */
export async function inspectTensors(file: string): Promise<TensorFile> {
  return unwrap(await addon().inspectTensors(file));
}

/**
 * Reads tensors of a safetensors file as f32 (floats of any width, and int32 and int64).
 *
 * @param names those wanted; all of them by default
 * @throws PotstillError naming the file, and the tensor that is missing
 */
export async function readTensors(
  engine: Engine,
  file: string,
  names?: readonly string[],
): Promise<Map<string, Tensor>> {
  const stored = new Map((await inspectTensors(file)).tensors.map((tensor) => [tensor.name, tensor]));
  const wanted = names ?? [...stored.keys()];
  const missing = wanted.find((name) => !stored.has(name));
  if (missing !== undefined) {
    throw inputError('ERR_TENSOR_MISSING', `there is no tensor ${JSON.stringify(missing)}`, {
      where: file,
      remedy: `It has ${[...stored.keys()].slice(0, NAMED).join(', ')}${stored.size > NAMED ? ', …' : ''}.`,
    });
  }
  const outs = wanted.map(() => engine.allocate());
  try {
    unwrap(await engine.native.readTensors(outs, file, [...wanted]));
  } catch (thrown) {
    engine.release(outs);
    throw thrown;
  }
  return new Map(
    wanted.map((name, index) => [name, new Tensor(engine, outs[index] ?? 0, stored.get(name)?.shape)] as const),
  );
}

/** Tensors that a message names: models have hundreds. */
const NAMED = 12;

/** Writes tensors to a safetensors file, which appears whole or not at all. */
export async function writeTensors(
  file: string,
  tensors: Readonly<Record<string, Tensor>>,
  options: { readonly dtype?: 'f16' | 'f32'; readonly metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  const [first] = Object.values(tensors);
  if (first === undefined) throw new RangeError('a tensor file needs at least one tensor');
  const handles = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.id]));
  const { dtype = 'f32', metadata = {} } = options;
  unwrap(await first.engine.native.writeTensors(file, handles, dtype, { ...metadata }));
}
