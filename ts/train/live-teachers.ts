import type { AskableRole } from '../methods/define.ts';
import { type Engine, openAdaptedUnet, openModel } from '../native/index.ts';
import type { ResolvedRecipe } from '../recipe/index.ts';
import { AskedRole } from './roles.ts';

/** A recipe's teachers, loaded beside the student. */
export interface LiveTeachers {
  readonly roles: ReadonlyMap<string, AskableRole>;
  dispose(): void;
}

/** Loads the teachers with their adapters, for methods that ask them during training. */
export async function openTeachers(engine: Engine, teachers: ResolvedRecipe['teachers']): Promise<LiveTeachers> {
  const roles = new Map<string, AskableRole>();
  const taken: { dispose(): void }[] = [];
  const dispose = (): void => {
    for (const handle of taken) handle.dispose();
  };
  try {
    for (const { id, model, lora, storage } of teachers) {
      const { prediction, schedule } = await openModel(engine, model);
      taken.push(schedule);
      const adapters = lora.map(({ file, scale }) => ({ file, weight: scale }));
      const unet = await openAdaptedUnet(engine, model, adapters, storage);
      taken.push(unet);
      roles.set(id, new AskedRole({ unet, prediction, schedule }));
    }
    return { roles, dispose };
  } catch (thrown) {
    dispose();
    throw thrown;
  }
}
