import { type Tensor, writeTensors } from '../native/index.ts';
import type { Context } from './command.ts';

/** Writes what a probe found, as f32, and prints the names and shapes. */
export async function writeProbe(
  file: string,
  tensors: Readonly<Record<string, Tensor>>,
  context: Context,
  facts: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  await writeTensors(file, tensors);
  const shapes = Object.entries(tensors).map(([name, { shape }]) => ({ name, shape }));
  context.result({ out: file, ...facts, tensors: shapes }, () =>
    [
      `${file}: ${shapes.length} ${shapes.length === 1 ? 'tensor' : 'tensors'}`,
      ...shapes.slice(0, SHOWN).map(({ name, shape }) => `  ${name} [${shape.join(', ')}]`),
      ...(shapes.length > SHOWN ? [`  … and ${shapes.length - SHOWN} more`] : []),
      ...Object.entries(facts).map(([name, value]) => `${name}: ${String(value)}`),
    ].join('\n'),
  );
}

/** Tensors named for a person; `--json` names all. */
const SHOWN = 8;
