"""Everything that needs a GPU, in one command: `python bench/gpu/run.py --suite FILE --out FOLDER` (README.md beside this).

Checks the suite's operations, UNets and training, lets torch make noise for it, lets compute-sanitizer look for writes beyond
memory, then times potstill and PyTorch in turns. Writes `gpu.json`, `gpu.md`, `gpu.log` and `torch-noise.json`; exits with 1 when a check failed.
Python's standard library alone, beside the torch that is compared with.
"""

import argparse
import gzip
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODES = ("forward", "lora", "full")
WORKLOADS = [(arch, size, mode) for arch, size in (("sd15", 512), ("sdxl", 1024)) for mode in MODES]
# On a CPU, to try the command: UNets of the fixtures.
TINY = [(arch, 64, mode) for arch in ("tiny-sd15", "tiny-sdxl") for mode in MODES]
DTYPES = ["f32", "bf16"]
# Of compute-sanitizer, and of the suite's checks: small shapes, for it is a hundred times slower.
SANITIZED = (("memcheck", "operations"), ("memcheck", "optimizer"), ("racecheck", "operations"), ("initcheck", "operations"))
SANITIZER_SECONDS = 240
NO_SANITIZER = "there is no compute-sanitizer: the CUDA toolkit has one, or the wheel nvidia-cuda-sanitizer-api in --wheels"
# Both sides' predictions must agree within this before their times are compared: the root mean square of their difference,
# as a share of that of the prediction. In bf16 each side alone is off by about 2e-2.
AGREEMENT = {"f32": 1e-3, "bf16": 1e-1}
TURNS = 2
POLL_SECONDS = 0.02


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", type=Path, required=True, help="the executable potstill-gpu-suite, or gzip's of it")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that Python lacks here (diffusers, compute-sanitizer)")
    parser.add_argument("--parts", default="checks,sanitizer,timings", help="which of them, separated by commas")
    parser.add_argument("--only", help="checks whose name contains this")
    parser.add_argument("--workload", default="", help="timings whose name contains this")
    parser.add_argument("--runs", type=int, default=10, help="timed runs of a workload in each turn")
    parser.add_argument("--seconds", type=float, default=540, help="no part is begun that would end after this")
    parser.add_argument("--device", default="cuda:0", help="cpu tries the command itself where there is no GPU")
    return parser.parse_args()


def unpacked(suite, folder):
    """The executable itself, unpacked into the folder when it was carried compressed."""
    if suite.suffix != ".gz":
        return suite.resolve()
    file = folder / suite.stem
    with gzip.open(suite) as packed, open(file, "wb") as out:
        shutil.copyfileobj(packed, out)
    file.chmod(0o755)
    return file.resolve()


def library_folders():
    """Where Python's wheels keep CUDA's libraries: torch's own are the right ones for a comparison."""
    folders = []
    for path in map(Path, sys.path):
        folders += sorted(path.glob("nvidia/*/lib"))
    return [str(folder) for folder in folders]


def query_gpu():
    fields = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory"
    found = run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"])
    return dict(zip(fields.split(","), [part.strip() for part in found.stdout.split(",")])) if found.returncode == 0 else None


def run(words, log=None, env=None, timeout=None):
    """Runs a command; its output goes to the log as well."""
    try:
        done = subprocess.run([str(w) for w in words], capture_output=True, text=True, env=env, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        done = subprocess.CompletedProcess(words, 127, "", f"{error}\n")
    if log:
        with open(log, "a") as file:
            file.write(f"$ {' '.join(map(str, words))}\n{done.stdout}{done.stderr}exit code {done.returncode}\n\n")
    return done


class Memory:
    """The most memory of the GPU that is in use meanwhile, less what was before: the same for both sides."""

    def __enter__(self):
        self.most = self.before = self.used()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.poll)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def poll(self):
        while self.before is not None and not self.stop.wait(POLL_SECONDS):
            self.most = max(self.most, self.used() or 0)

    @staticmethod
    def used():
        try:
            import pynvml

            pynvml.nvmlInit()
            return pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used
        except Exception:  # no NVML: memory stays unknown
            return None

    def bytes(self):
        return None if self.before is None else self.most - self.before


def check(args, env, log):
    noise, file = args.out / "torch-noise.json", args.out / "checks.json"
    words = [args.suite, "--device", args.device, "--json", file]
    for old in (noise, file):
        old.unlink(missing_ok=True)
    if args.device == "cpu":
        words += ["--size", "small"]
    else:
        # Where torch makes none, the file is missing and the suite's check of it fails.
        run([sys.executable, HERE / "torch_noise.py", noise], log, env)
        words += ["--torch-noise", noise]
    words += ["--only", args.only] if args.only else []
    done = run(words, log, env)
    report = json.loads(file.read_text()) if file.exists() else None
    file.unlink(missing_ok=True)
    return {"exitCode": done.returncode, "report": report, "markdown": done.stdout, "error": done.stderr[-2000:]}


def find_sanitizer(packages):
    """On PATH, in a toolkit, or in the wheel that was brought."""
    found = shutil.which("compute-sanitizer")
    places = [*Path("/usr/local").glob("cuda*/bin/compute-sanitizer"), packages / "nvidia" / "cu13" / "bin" / "compute-sanitizer"]
    found = found or next((place for place in places if place.exists()), None)
    if found:
        os.chmod(found, 0o755) if packages in Path(found).parents else None
    return found


def sanitize(args, env, log, begun):
    """Writes beyond memory, races, values that were never written."""
    if args.device == "cpu":
        return {"skipped": "there is no GPU"}
    tool = find_sanitizer(args.out / "packages")
    if tool is None:
        return {"skipped": NO_SANITIZER}
    results = {}
    for name, only in SANITIZED:
        left = args.seconds - (time.monotonic() - begun)
        if left <= 0:
            results[f"{name} {only}"] = {"exitCode": None, "summary": "not run: no time was left"}
            continue
        suite = [args.suite, "--device", args.device, "--size", "small", "--only", only]
        words = [tool, "--tool", name, "--error-exitcode", "99", "--launch-timeout", "60", *suite]
        done = run(words, log, env, timeout=min(left, SANITIZER_SECONDS))
        summary = [line for line in done.stdout.splitlines() if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line]
        told = summary[-1].strip("= ") if summary else (done.stderr or done.stdout)[-300:].strip()
        results[f"{name} {only}"] = {"exitCode": done.returncode, "summary": told}
    return results


def suite_timing(args, env, log, workload, dtype):
    file = args.out / "timing.json"
    name = " ".join(map(str, workload))
    words = [args.suite, "--device", args.device, "--only", "nothing", "--time", args.runs, "--workload", name, "--json", file]
    file.unlink(missing_ok=True)
    with Memory() as memory:
        done = run([*words, "--dtype", dtype], log, env)
    if done.returncode != 0 or not file.exists():
        return {"why": done.stderr[-300:] or f"exit code {done.returncode}"}
    timings = json.loads(file.read_text())["timings"]
    file.unlink()
    return {**timings[0], "peakBytes": memory.bytes()} if timings else {"why": "nothing was timed"}


def torch_timing(args, env, log, workload, dtype):
    with Memory() as memory:
        done = run([sys.executable, HERE / "torch_unet.py", *workload, dtype, args.runs, args.device], log, env)
    if done.returncode != 0:
        return {"why": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    return {**json.loads(done.stdout.splitlines()[-1]), "peakBytes": memory.bytes()}


def compare(args, env, log, begun):
    """Both sides in turns. Times of predictions that disagree are no comparison."""
    rows = []
    for workload in TINY if args.device == "cpu" else WORKLOADS:
        name = " ".join(map(str, workload))
        for dtype in DTYPES:
            # Weights that are trained are f32 on a CPU.
            if args.workload not in f"{name} {dtype}" or (args.device, workload[2], dtype) == ("cpu", "full", "bf16"):
                continue
            turn_seconds, sides = 0, ([], [])
            for _ in range(TURNS):
                if time.monotonic() - begun + turn_seconds > args.seconds:
                    break
                turn = time.monotonic()
                for side, measure in zip(sides, (suite_timing, torch_timing)):
                    side.append(measure(args, env, log, workload, dtype))
                turn_seconds = time.monotonic() - turn
            rows.append(row_of(name, dtype, *sides))
    return rows


def row_of(name, dtype, ours, theirs):
    row = {"name": name, "dtype": dtype, "potstill": ours, "torch": theirs}
    if not ours:
        return {**row, "why": "no time was left"}
    failed = [side["why"] for side in ours + theirs if side.get("why")]
    if failed:
        return {**row, "why": failed[0]}
    pairs = list(zip(ours[0]["probes"], theirs[0]["probes"], strict=True))
    difference = math.sqrt(sum((a - b) ** 2 for a, b in pairs) / len(pairs)) / theirs[0]["rms"]
    row["difference"] = difference
    if not difference <= AGREEMENT[dtype]:
        return {**row, "disagrees": True, "why": f"predictions differ by {difference:.2g} of their root mean square"}
    medians = [statistics.median(s for turn in side for s in turn["seconds"]) for side in (ours, theirs)]
    return {**row, "seconds": medians, "ratio": medians[0] / medians[1]}


def megabytes(side):
    known = [turn["peakBytes"] for turn in side if turn.get("peakBytes")]
    return f"{max(known) / 1e9:.1f} GB" if known else "unknown"


def page(result):
    gpu = result["gpu"] or {"name": "no GPU", "driver_version": "-"}
    lines = [f"# GPU: {gpu['name']}, driver {gpu['driver_version']}, {result['date']}", ""]
    if "checks" in result:
        lines += [result["checks"]["markdown"] or f"the suite did not run: {result['checks']['error']}", ""]
    for name, found in result.get("sanitizer", {}).items():
        lines.append(f"compute-sanitizer {name}: {found['summary'] if isinstance(found, dict) else found}")
    if "timings" in result:
        lines += ["", "| UNet, batch 1 | format | potstill | PyTorch | ratio | peak memory |", "|---|---|---:|---:|---:|---|"]
        for row in result["timings"]:
            cells = [row.get("why", "").replace("|", "/").replace("\n", " "), "", ""]
            if "ratio" in row:
                cells = [f"{row['seconds'][0] * 1e3:.1f} ms", f"{row['seconds'][1] * 1e3:.1f} ms", f"**{row['ratio']:.2f}**"]
            memory = f"{megabytes(row['potstill'])} : {megabytes(row['torch'])}"
            lines.append(f"| {row['name']} | {row['dtype']} | {' | '.join(cells)} | {memory} |")
    return "\n".join(lines) + "\n"


def main():
    args = arguments()
    begun = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "gpu.log"
    log.unlink(missing_ok=True)
    given, args.suite = args.suite, unpacked(args.suite, args.out)
    env = dict(os.environ)
    # Last, a stub of cuRAND, which some of torch's versions do not bring and from which nothing here draws.
    folders = [env.get("LD_LIBRARY_PATH"), *library_folders(), args.wheels and str(args.wheels.resolve())]
    env["LD_LIBRARY_PATH"] = ":".join(filter(None, folders))
    env["PYTHONUNBUFFERED"] = "1"
    if args.wheels:
        packages = args.out / "packages"
        wheels = sorted(args.wheels.glob("*.whl"))
        run([sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", packages, *wheels], log)
        env["PYTHONPATH"] = ":".join(filter(None, [str(packages), env.get("PYTHONPATH")]))
    parts = args.parts.split(",")
    result = {"date": date.today().isoformat(), "gpu": query_gpu(), "host": platform.platform(), "runs": args.runs}
    if "checks" in parts:
        result["checks"] = check(args, env, log)
    if "sanitizer" in parts:
        result["sanitizer"] = sanitize(args, env, log, begun)
    if "timings" in parts:
        result["timings"] = compare(args, env, log, begun)
    if args.wheels:
        shutil.rmtree(args.out / "packages", ignore_errors=True)
    if args.suite != given.resolve():
        args.suite.unlink()
    result["seconds"] = round(time.monotonic() - begun, 1)
    (args.out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "gpu.md").write_text(page(result))
    print(page(result))
    sanitized = [found for found in result.get("sanitizer", {}).values() if isinstance(found, dict)]
    broken = [found for found in sanitized if found["exitCode"] not in (0, None)]
    broken += [row for row in result.get("timings", []) if row.get("disagrees")]
    return 1 if broken or result.get("checks", {}).get("exitCode", 0) != 0 else 0


sys.exit(main())
