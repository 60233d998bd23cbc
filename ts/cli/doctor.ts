import { type Command, Option } from 'commander';
import type { Machine } from '../machine/index.ts';
import type { Context } from './command.ts';
import { formatBytes } from './format.ts';
import { notBuilt } from './not-built.ts';

/** `potstill doctor`: versions, processor, memory, disk, addon, WASM module; what is wrong, and what helps. */
export function configure(command: Command, context: Context): void {
  command
    .addOption(new Option('--estimate <recipe>').hideHelp())
    .action(async ({ estimate }: { estimate?: string }) => {
      if (estimate !== undefined) throw notBuilt('potstill doctor --estimate');
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
    ...native.candidates.map(({ source, loaded, version, reason }): [string, string] => [
      'native',
      loaded ? `${source}${version === undefined ? '' : ` ${version}`}: loaded` : `${source}: ${reason}`,
    ]),
    [
      'wasm',
      wasm.present ? `${formatBytes(wasm.bytes)}${wasm.reason === undefined ? '' : `: ${wasm.reason}`}` : 'missing',
    ],
    ...machine.devices.map(({ id, kernels, threads }): [string, string] => [
      'device',
      `${id}: ${kernels} kernels, ${threads} threads`,
    ]),
  ];
  const facts = rows.map(([name, value]) => `${name.padEnd(13)}${value}`);
  const problems = machine.problems.flatMap(({ what, remedy }) => [`problem      ${what}`, `  do         ${remedy}`]);
  return [...facts, ...(problems.length === 0 ? ['everything needed is here'] : problems)].join('\n');
}
