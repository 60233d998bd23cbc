import { cpSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Damage } from './damage.ts';
import { viewSafetensors } from './safetensors.ts';

/** A cache in the files layout that PyTorch and safetensors wrote, by `test/fixtures/make_files_cache.py`. */
export function filesFixture(name: 'shared' | 'keyed' | 'cuda'): string {
  return join(import.meta.dirname, '../fixtures/files_cache', name);
}

/** The teacher whose files are damaged. */
const TEACHER = 'teacher_v8';

/** Files of the teacher, the same names as the other's. */
const filesIn = (cache: string): string[] =>
  readdirSync(join(cache, TEACHER))
    .sort()
    .map((name) => join(cache, TEACHER, name));

/** Damages the teacher's first file. */
const first =
  (damage: (file: string) => void) =>
  (cache: string): void =>
    damage(filesIn(cache)[0] ?? '');

/** Changes bytes of a tensor of the teacher's first file. */
const inFirst = (tensor: string, change: (bytes: Buffer) => void): ((cache: string) => void) =>
  first((file) => inFile(file, (bytes) => change(viewSafetensors(bytes).get(tensor)?.bytes ?? Buffer.alloc(0))));

function inFile(file: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(file);
  change(bytes);
  writeFileSync(file, bytes);
}

/** Every kind of damage that the files layout can have, done to a copy of the fixture `shared`. */
export const FILES_DAMAGES: readonly Damage[] = [
  { what: 'a file that is missing', damage: first((file) => rmSync(file)), named: [`${TEACHER}: entry-missing`] },
  {
    what: 'a file cut short',
    damage: first((file) => truncateSync(file, 1200)),
    named: [`${TEACHER}: file-header`],
  },
  {
    what: 'a header of eight exabytes',
    damage: first((file) => writeFileSync(file, Buffer.alloc(64, 0xff))),
    named: [`${TEACHER}: file-header`],
  },
  {
    what: 'a tensor that is called otherwise',
    damage: first((file) => inFile(file, (bytes) => bytes.write('"noice"', bytes.indexOf('"noise"'), 'latin1'))),
    named: [`${TEACHER}: tensor-missing`, `${TEACHER}: tensor-unknown`],
  },
  {
    what: 'a file named after another size',
    damage: first((file) => renameSync(file, file.replace(/_(\d+)x(\d+)\./, '_128x128.'))),
    named: [`${TEACHER}: tensor-shape`],
  },
  {
    what: 'another resolution',
    damage: inFirst('resolution', (bytes) => bytes.writeInt32LE(72, 0)),
    named: [`${TEACHER}: resolution-mismatch`],
  },
  {
    what: 'another timestep',
    damage: inFirst('timestep', (bytes) => bytes.writeInt32LE(3, 0)),
    named: [`${TEACHER}: timestep-mismatch`, `${TEACHER}: draws-differ`],
  },
  {
    what: 'another seed',
    damage: inFirst('seed', (bytes) => bytes.writeInt32LE(7, 0)),
    named: [`${TEACHER}: noise-mismatch`, `${TEACHER}: timestep-mismatch`],
  },
  {
    what: 'a value of the noise changed',
    damage: inFirst('noise', (bytes) => bytes.writeUInt16LE(0x4200, 90)),
    named: [`${TEACHER}: noise-mismatch`],
  },
  {
    what: 'a value that is no number',
    damage: inFirst('teacher_pred', (bytes) => bytes.writeUInt16LE(0x7e00, 8)),
    named: [`${TEACHER}: not-finite`],
  },
  {
    what: 'other text',
    damage: inFirst('pooled_embeds', (bytes) => bytes.writeUInt16LE(0x3c00, 0)),
    named: [`${TEACHER}: text-differs`],
  },
  {
    what: "a teacher with noise of its own, by an older builder's mistake",
    damage: (cache) => {
      const keyed = readdirSync(join(filesFixture('keyed'), TEACHER));
      for (const teacher of readdirSync(cache)) {
        for (const name of readdirSync(join(cache, teacher))) {
          if (!keyed.includes(name)) rmSync(join(cache, teacher, name));
        }
      }
      cpSync(join(filesFixture('keyed'), TEACHER), join(cache, TEACHER), { recursive: true });
    },
    named: [`${TEACHER}: noise-keyed-by-teacher`],
  },
  {
    what: 'a file that belongs to nothing',
    damage: (cache) => writeFileSync(join(cache, TEACHER, 'notes.txt'), 'mine'),
    named: [`${TEACHER}: file-unknown`],
  },
];
