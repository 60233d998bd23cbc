import { cp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { addon } from '../native/load.ts';
import { unwrap } from '../native/outcome.ts';
import { Shard } from './shard.ts';

/** One way to damage a cache, which verification must notice. */
export interface Damage {
  /** What was done, for people. */
  readonly subject: string;
  /** Damages the cache in a folder, which has the teacher given. */
  apply(cache: string, teacher: string): Promise<void>;
}

const FIRST_SHARD = 'shard-00000.safetensors';
const SEAL = 'seal.json';
const PLAN = 'plan.json';

/** Adding this to the bits of a normal f16 doubles it. */
const F16_EXPONENT_STEP = 0x0400;
/** Bits of an f16's exponent: all clear for zero and subnormal numbers, all set for what is not finite. */
const F16_EXPONENT = 0x7c00;

/** Damages that a disk or a copy does, and two that someone did who made the digests anew. */
export const DAMAGES: readonly Damage[] = [
  {
    subject: 'one bit flipped in a teacher’s shard',
    apply: (cache, teacher) =>
      inShard(cache, teacher, (shard) => {
        const record = shard.record('cond', 1);
        record.writeUInt8(record.readUInt8(100) ^ 1, 100);
      }),
  },
  {
    subject: 'the last 100 bytes of the latents cut off',
    apply: async (cache) => {
      const path = join(cache, 'latents', FIRST_SHARD);
      await truncate(path, (await readFile(path)).length - 100);
    },
  },
  {
    subject: 'a shard of the text deleted',
    apply: (cache) => rm(join(cache, 'text', FIRST_SHARD)),
  },
  {
    subject: 'a teacher’s plan edited to another seed',
    apply: async (cache, teacher) => {
      const path = join(cache, 'teachers', teacher, PLAN);
      const plan = await readFile(path, 'utf8');
      await writeFile(
        path,
        plan.replace(/"baseSeed":(\d+)/, (_, seed: string) => `"baseSeed":${Number(seed) + 1}`),
      );
    },
  },
  {
    subject: 'two predictions swapped, digests made anew',
    apply: async (cache, teacher) => {
      await inShard(cache, teacher, (shard) => {
        const [one, other] = [shard.record('cond', 0), shard.record('cond', 5)];
        const kept = Buffer.from(one);
        other.copy(one);
        kept.copy(other);
      });
      await reseal(cache, teacher);
    },
  },
  {
    subject: 'one prediction doubled, digests made anew',
    apply: async (cache, teacher) => {
      await inShard(cache, teacher, (shard) => double(shard.record('cond', noisiest(shard))));
      await reseal(cache, teacher);
    },
  },
];

/** A copy of a cache, damaged; a copy that an earlier call made is replaced. */
export async function damagedCopy(cache: string, copy: string, teacher: string, damage: Damage): Promise<void> {
  await rm(copy, { recursive: true, force: true });
  await cp(cache, copy, { recursive: true });
  await damage.apply(copy, teacher);
}

async function inShard(cache: string, teacher: string, change: (shard: Shard) => void): Promise<void> {
  const shard = await Shard.read(join(cache, 'teachers', teacher, FIRST_SHARD));
  change(shard);
  await shard.save();
}

/** The record of the last timestep: there a teacher knows most of its target, so that its scale is beyond doubt. */
function noisiest(shard: Shard): number {
  const timesteps = Array.from({ length: shard.records('timestep') }, (_, index) =>
    shard.record('timestep', index).readBigInt64LE(),
  );
  return timesteps.reduce((best, timestep, index) => (timestep > (timesteps[best] ?? 0n) ? index : best), 0);
}

/** Doubles f16 values in place: exact, and the same digits to anyone who only looks at their form. */
function double(record: Buffer): void {
  for (let offset = 0; offset < record.length; offset += 2) {
    const bits = record.readUInt16LE(offset);
    const exponent = bits & F16_EXPONENT;
    if (exponent !== 0 && exponent < F16_EXPONENT - F16_EXPONENT_STEP) {
      record.writeUInt16LE(bits + F16_EXPONENT_STEP, offset);
    }
  }
}

/** Writes a teacher's seal anew over what its shards hold now. */
async function reseal(cache: string, teacher: string): Promise<void> {
  const folder = join(cache, 'teachers', teacher);
  await rm(join(folder, SEAL));
  const builder = unwrap(await addon().beginCache(cache, await readFile(join(folder, PLAN), 'utf8')));
  unwrap(await builder.seal());
}
