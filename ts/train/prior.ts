import type { Role } from '../methods/define.ts';
import { componentFolder, type Engine, type Lora, openModel, Unet } from '../native/index.ts';
import { AskedRole, type Network } from './roles.ts';

/** The student as it was before training. */
export interface Prior {
  readonly role: Role;
  dispose(): void;
}

/**
 * A student's network without the LoRAs that are trained on it: no memory of its own. Cached text is that of its encoders
 * without theirs.
 */
export function priorWithout(student: Network, loras: readonly Lora[]): Prior {
  return { role: new AskedRole({ ...student, text: undefined }, loras), dispose: () => {} };
}

/** A frozen copy of a model's UNet, for students whose own weights change. */
export async function openPrior(engine: Engine, model: string): Promise<Prior> {
  const opened = await openModel(engine, model);
  const { prediction, schedule } = opened;
  const unet = await Unet.open(engine, componentFolder(opened, 'unet'));
  return {
    role: new AskedRole({ unet, prediction, schedule }),
    dispose: () => {
      unet.dispose();
      schedule.dispose();
    },
  };
}
