"""Makes tests/philox_vectors.tsv from the definition alone, with numpy and mpmath, independently of the Rust code.

Run: python philox_vectors.py > ../tests/philox_vectors.tsv
Each value is computed with 40 digits and rounded to f32 once; a value so near the middle of two floats that f64 arithmetic
could round it to the other one would be reported (none is among these).
"""

import hashlib
import sys

import numpy as np
from mpmath import cos, log, mp, mpf, pi, sin, sqrt

mp.dps = 40
MASK = 0xFFFFFFFF


def philox(counter, key):
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        first, second = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (second >> 32) ^ b ^ k0, second & MASK, (first >> 32) ^ d ^ k1, first & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return a, b, c, d


def to_f32(exact):
    """Nearest f32 of an exact value; complains when f64 accuracy would not decide it."""
    nearest = np.float32(float(exact))
    for neighbour in (np.nextafter(nearest, np.float32(np.inf)), np.nextafter(nearest, np.float32(-np.inf))):
        middle = (mpf(float(nearest)) + mpf(float(neighbour))) / 2
        if abs(exact - middle) < abs(exact) * mpf(2) ** -50:
            print(f"undecided: {exact}", file=sys.stderr)
    return nearest


def normals(seed, stream, count):
    out = []
    block = 0
    while len(out) < count:
        words = philox((block & MASK, block >> 32, stream, 0), (seed & MASK, seed >> 32))
        for x, y in (words[:2], words[2:]):
            r = sqrt(-2 * log(mpf(x + 1) / 2**32))
            turn = 2 * pi * mpf(y) / 2**32
            out += [to_f32(r * cos(turn)), to_f32(r * sin(turn))]
        block += 1
    return np.array(out[:count], dtype="<f4")


print("# seed, stream, values, SHA-256 of the little-endian f32 bytes, IEEE-754 hex of the first values")
for seed in (0, 42, 0x0123456789ABCDEF, 2**64 - 1):
    for stream, count in ((0, 16384), (1, 5), (2, 1003)):
        values = normals(seed, stream, count)
        first = ",".join(f"{v:08x}" for v in values[:4].view("<u4"))
        print(seed, stream, count, hashlib.sha256(values.tobytes()).hexdigest(), first, sep="\t")
