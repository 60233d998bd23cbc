/** Final latents of one prompt and seed, from the same noise, by the three models. */
export interface LatentTriple {
  readonly heldOut: boolean;
  readonly teacher: Float32Array;
  readonly student: Float32Array;
  readonly undistilled: Float32Array;
}

/** What {@link distance} found; null where no pictures of that kind were given. */
export interface Distances {
  readonly trained: number | null;
  readonly heldOut: number | null;
  readonly all: number;
  readonly rms: { readonly student: number; readonly undistilled: number };
}

/**
 * The distance of a student to its guided teacher: RMS difference of final latents, divided by that of the
 * undistilled model. Below 1 is progress.
 *
 * @throws RangeError when nothing is given, lengths differ, or the undistilled model equals the teacher
 */
export function distance(triples: readonly LatentTriple[]): Distances {
  if (triples.length === 0) throw new RangeError('a distance needs at least one picture');
  const trained = triples.filter(({ heldOut }) => !heldOut);
  const heldOut = triples.filter((triple) => triple.heldOut);
  return {
    trained: trained.length === 0 ? null : ratio(trained),
    heldOut: heldOut.length === 0 ? null : ratio(heldOut),
    all: ratio(triples),
    rms: { student: rms(triples, 'student'), undistilled: rms(triples, 'undistilled') },
  };
}

function ratio(triples: readonly LatentTriple[]): number {
  const undistilled = rms(triples, 'undistilled');
  if (undistilled === 0) throw new RangeError('the undistilled model equals the teacher: there is nothing to distil');
  return rms(triples, 'student') / undistilled;
}

function rms(triples: readonly LatentTriple[], model: 'student' | 'undistilled'): number {
  let sum = 0;
  let count = 0;
  for (const triple of triples) {
    const { teacher, [model]: other } = triple;
    if (other.length !== teacher.length) {
      throw new RangeError(
        `latents of the teacher (${teacher.length}) and the ${model} (${other.length}) differ in size`,
      );
    }
    for (let index = 0; index < teacher.length; index++) {
      sum += ((other[index] ?? Number.NaN) - (teacher[index] ?? Number.NaN)) ** 2;
    }
    count += teacher.length;
  }
  return Math.sqrt(sum / count);
}
