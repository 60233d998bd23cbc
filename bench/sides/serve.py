"""The other side of a benchmark, as a program: see `lib/peer.ts`."""

import json
import resource
import sys
import time

KIBIBYTE = 1024


def serve(introduction, run):
    """Says what was computed, then times `run` once for every line of input."""
    print(json.dumps(introduction), flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        run()
        seconds = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE
        print(json.dumps({"seconds": seconds, "peakBytes": peak}), flush=True)
