import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { addon, unwrap } from '../../ts/native/index.ts';
import type { Damage } from './damage.ts';
import { viewSafetensors } from './safetensors.ts';

const SHARD = 'shard-00001.safetensors';

/** Changes bytes of the first teacher's second shard. */
function inShard(folder: string, change: (tensors: ReturnType<typeof viewSafetensors>) => void): void {
  const path = join(folder, 'teachers/first', SHARD);
  const bytes = readFileSync(path);
  change(viewSafetensors(bytes));
  writeFileSync(path, bytes);
}

/** What someone does who hides a change: the digests are made anew. */
async function sealAgain(folder: string): Promise<void> {
  rmSync(join(folder, 'teachers/first/seal.json'));
  const plan = readFileSync(join(folder, 'teachers/first/plan.json'), 'utf8');
  const builder = unwrap(await addon().beginCache(folder, plan));
  unwrap(await builder.seal());
}

/** Exchanges the first two records of a tensor, each of 2·4·8·8 bytes. */
function swapRecords(bytes: Buffer): void {
  const size = 512;
  const first = Buffer.from(bytes.subarray(0, size));
  bytes.copyWithin(0, size, 2 * size);
  first.copy(bytes, size);
}

/** Kinds of damage to the shards of a tiny project's cache. */
export const SHARD_DAMAGES: readonly Damage[] = [
  {
    what: 'a bit flipped',
    damage: (folder) =>
      inShard(folder, (tensors) => {
        const bytes = tensors.get('cond')?.bytes;
        bytes?.writeUInt8((bytes.readUInt8(1000) ^ 1) & 0xff, 1000);
      }),
    named: ['teachers/first: shard-digest'],
  },
  {
    what: 'the end of a file cut off',
    damage: (folder) => truncateSync(join(folder, 'latents/shard-00000.safetensors'), 3000),
    named: ['latents: shard-header', 'latents: shard-size'],
  },
  {
    what: 'a shard deleted',
    damage: (folder) => rmSync(join(folder, 'teachers/second', SHARD)),
    named: ['teachers/second: shard-missing'],
  },
  {
    what: 'predictions exchanged, the digests made anew',
    damage: async (folder) => {
      inShard(folder, (tensors) => swapRecords(tensors.get('cond')?.bytes ?? Buffer.alloc(0)));
      await sealAgain(folder);
    },
    named: ['teachers/first: prediction-swapped'],
  },
  {
    what: 'a timestep changed, the digests made anew',
    damage: async (folder) => {
      inShard(folder, (tensors) => tensors.get('timestep')?.bytes.writeUInt8(1, 0));
      await sealAgain(folder);
    },
    named: ['teachers/first: timestep-mismatch'],
  },
  {
    what: 'a NaN, the digests made anew',
    damage: async (folder) => {
      inShard(folder, (tensors) => tensors.get('uncond')?.bytes.writeUInt16LE(0x7e00, 40));
      await sealAgain(folder);
    },
    named: ['teachers/first: not-finite'],
  },
  {
    what: 'a plan edited to another seed',
    damage: (folder) => {
      const path = join(folder, 'teachers/first/plan.json');
      writeFileSync(path, readFileSync(path, 'utf8').replace('"baseSeed":42', '"baseSeed":43'));
    },
    named: ['teachers/first: plan-edited', 'teachers/first: seed-mismatch'],
  },
  {
    what: 'a plan that is no JSON',
    damage: (folder) => writeFileSync(join(folder, 'teachers/first/plan.json'), '{"format":'),
    named: ['teachers/first: plan-invalid'],
  },
  {
    what: 'an unfinished build',
    damage: (folder) => {
      rmSync(join(folder, 'teachers/first/seal.json'));
      rmSync(join(folder, 'teachers/first', SHARD));
      writeFileSync(join(folder, 'teachers/first/.potstill-a1.tmp'), 'half');
    },
    named: ['teachers/first: leftover', 'teachers/first: unsealed'],
  },
  {
    what: 'a header of eight exabytes',
    damage: (folder) => writeFileSync(join(folder, 'text/shard-00000.safetensors'), Buffer.alloc(64, 0xff)),
    named: ['text: shard-header', 'text: shard-size'],
  },
  {
    what: 'a link out of the cache',
    damage: (folder) => {
      const path = join(folder, 'text/shard-00000.safetensors');
      renameSync(path, join(folder, '../text.moved'));
      symlinkSync('../../text.moved', path);
    },
    named: ['text: unreadable'],
  },
  {
    what: 'files that belong to nothing',
    damage: (folder) => {
      mkdirSync(join(folder, 'teachers/..hidden'), { recursive: true });
      writeFileSync(join(folder, 'teachers/..hidden/plan.json'), '{}');
      writeFileSync(join(folder, 'latents/notes.txt'), 'mine');
    },
    named: ['latents: file-unknown'],
  },
];

/** What browsers do not show: they pass over links as if there were nothing. */
export const LINK_DAMAGE = 'a link out of the cache';
