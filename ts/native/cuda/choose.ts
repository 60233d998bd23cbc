import { cudaNumber, type Device, type DeviceName } from '../../device.ts';
import { machineError, type PotstillError } from '../../errors.ts';
import { type CudaProblem, type CudaState, deviceProblem } from './inspect.ts';

/** The device of a name. */
export interface ChosenDevice {
  readonly device: Device;
  /** Of `auto`: why it is the CPU although something of CUDA is here. */
  readonly note?: string;
}

/**
 * The device that a name stands for on a machine.
 *
 * @throws PotstillError of kind `machine` when a device was named that cannot be used: another never takes its place
 */
export function chooseDevice(name: DeviceName, state: CudaState): ChosenDevice {
  if (name === 'cpu') return { device: 'cpu' };
  const number = name === 'auto' ? 0 : cudaNumber(name);
  const ofDevice = state.problems.length === 0 ? deviceProblem(state, number) : undefined;
  const problems = ofDevice === undefined ? state.problems : [ofDevice];
  if (problems.length === 0) return { device: `cuda:${number}` };
  const error = unusable(problems, name);
  if (name !== 'auto') throw error;
  return { device: 'cpu', note: `computing on the CPU: ${error.what}. ${error.remedy}` };
}

/** All that is wrong, in the words of the first and with the remedies of all. */
function unusable(problems: readonly CudaProblem[], name: DeviceName): PotstillError {
  const [first] = problems as readonly [CudaProblem, ...CudaProblem[]];
  return machineError(first.code, problems.map(({ what }) => what).join('; '), {
    where: first.where ?? `device ${name}`,
    remedy: problems.map(({ remedy }) => remedy).join(' '),
  });
}
