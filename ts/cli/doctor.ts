import type { Command } from 'commander';
import type { DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import type { MemoryEstimate } from '../estimate/index.ts';
import type { ComputeDevice, Machine } from '../machine/index.ts';
import type { Context } from './command.ts';
import { openEngine, recipeDeviceOption, withDevice } from './device.ts';
import { formatBytes } from './format.ts';
import { setOption } from './set-option.ts';

interface DoctorOptions {
  readonly estimate?: string;
  readonly device?: DeviceName;
  readonly set: readonly string[];
}

/** `potstill doctor`: versions, processor, memory, disk, addon, WASM module; what is wrong, and what helps. */
export function configure(command: Command, context: Context): void {
  command
    .option('--estimate <recipe>', 'how much memory a recipe takes at most; exits with 1 when that is not free')
    .addOption(recipeDeviceOption())
    .addOption(setOption())
    .action(async ({ estimate, device, set }: DoctorOptions) => {
      if (estimate !== undefined) {
        const { loadRecipe } = await import('../recipe/index.ts');
        const { recipe } = await loadRecipe(estimate, { set: withDevice(set, device) });
        const { estimateMemory } = await import('../estimate/index.ts');
        const engine = await openEngine(recipe, context);
        const found = await estimateMemory(recipe, { device: engine.device });
        context.result(found, () => describeEstimate(found));
        if (!found.fits) context.failCheck();
        return;
      }
      if (device !== undefined || set.length > 0) {
        throw inputError('ERR_USAGE', '--device and --set are for --estimate', {
          remedy: 'Without a recipe, doctor shows every device.',
        });
      }
      const { inspectMachine } = await import('../machine/index.ts');
      const machine = await inspectMachine(process.cwd());
      context.result(machine, () => describe(machine));
      // Without the addon nothing computes here: that is this machine's fault, not a failed check.
      if (machine.native.loaded === null) context.failMachine();
    });
}

function describe(machine: Machine): string {
  const { cpu, memory, disk, native, wasm } = machine;
  const rows: [name: string, value: string][] = [
    ['potstill', machine.potstill],
    ['node', machine.node],
    ['platform', machine.glibc === undefined ? machine.platform : `${machine.platform}, glibc ${machine.glibc}`],
    ['processor', `${cpu.model}, ${cpu.threads} of ${cpu.cores} threads`],
    ['instructions', cpu.features.join(' ') || 'unknown'],
    ['memory', `${formatBytes(memory.available)} free of ${formatBytes(memory.total)}`],
    ['disk', `${formatBytes(disk.available)} free at ${disk.folder}`],
    ...native.candidates.map(({ backend, source, loaded, version, reason }): [string, string] => [
      backend === 'cpu' ? 'native' : 'native cuda',
      loaded ? `${source}${version === undefined ? '' : ` ${version}`}: loaded` : `${source}: ${reason}`,
    ]),
    [
      'wasm',
      wasm.present ? `${formatBytes(wasm.bytes)}${wasm.reason === undefined ? '' : `: ${wasm.reason}`}` : 'missing',
    ],
    ...cudaRows(machine),
    ...machine.devices.map((device): [string, string] => ['device', describeDevice(device)]),
  ];
  const facts = rows.map(([name, value]) => `${name.padEnd(13)}${value}`);
  const problems = machine.problems.flatMap(({ what, remedy }) => [`problem      ${what}`, `  do         ${remedy}`]);
  return [...facts, ...(problems.length === 0 ? ['everything needed is here'] : problems)].join('\n');
}

function cudaRows({ cuda }: Machine): [name: string, value: string][] {
  if (cuda === undefined) return [];
  const { driver, libraries, usable, problems } = cuda;
  const found = libraries.map(({ file, found, source, reasons = [] }) => {
    if (found !== undefined) return `${file}: ${source === undefined ? found : `${found} (${source})`}`;
    return `${file}: ${['missing', ...reasons].join('; ')}`;
  });
  return [
    ['cuda', driver === undefined ? 'no driver' : `driver of CUDA ${driver}`],
    ...found.map((text): [string, string] => ['cuda', text]),
    ...(usable ? [] : problems.map(({ what }): [string, string] => ['cuda', `not used: ${what}`])),
  ];
}

function describeDevice(device: ComputeDevice): string {
  if (device.id === 'cpu') return `cpu: ${device.kernels} kernels, ${device.threads} threads`;
  const { id, name, capability, totalBytes, freeBytes } = device;
  const free = freeBytes === undefined ? '' : `${formatBytes(freeBytes)} free of `;
  return `${id}: ${name}, compute capability ${capability}, ${free}${formatBytes(totalBytes)}`;
}

function describeEstimate({ device, available, phases, fits }: MemoryEstimate): string {
  const name = Math.max(...phases.map(({ phase }) => phase.length)) + 2;
  const lines = phases.map(({ phase, bytes, needs, fits: its }) => {
    const parts = needs.map((need) => `${need.what} ${formatBytes(need.bytes)}`).join(', ');
    return `${phase.padEnd(name)}${formatBytes(bytes).padStart(8)}${its ? '' : '  does not fit'}  (${parts})`;
  });
  const least = phases.reduce((a, b) => (b.bytes > a.bytes ? b : a));
  const verdict = fits
    ? `fits: at most ${formatBytes(least.bytes)}, ${formatBytes(available)} free on ${device}`
    : `does not fit: ${formatBytes(least.bytes)} needed, ${formatBytes(available)} free on ${device}; a smaller training.batch, training.recompute or a LoRA takes less`;
  return [...lines, verdict].join('\n');
}
