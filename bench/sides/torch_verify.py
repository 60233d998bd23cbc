"""The checks of `potstill cache verify`, written with safetensors, hashlib and torch:
`python torch_verify.py LAYOUT CACHE PROCESSES [IMAGES]`. The protocol is `lib/peer.ts`'s.

Of the files layout: names and seeds by hashlib, headers by safetensors, dtypes, shapes, finite values, timesteps and noise by
torch's generator, the same text for all teachers. Of shards: documents and their digests, BLAKE3 of every shard (by the package
blake3, for hashlib has none), keys, seeds, timesteps, finite values. Of both: the statistics of every prediction against its
noise. Files are shared out among processes of one thread each, which are kept from one iteration to the next.
"""

import functools
import hashlib
import json
import multiprocessing
import sys
from collections import defaultdict
from pathlib import Path

import numpy
import safetensors.torch
import torch
from serve import serve

TIMESTEPS, BANDS, BASE_SEED = 1000, 10, 42
layout, cache, processes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
images = Path(sys.argv[4]) if len(sys.argv) > 4 else None


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moments(prediction: torch.Tensor, noise: torch.Tensor) -> tuple[float, float, float, int]:
    """Second moments of a prediction and its noise, in double precision."""
    p, e = prediction.flatten().double(), noise.flatten().double()
    return (p @ p).item(), (p @ e).item(), (e @ e).item(), p.numel()


def is_finite(tensor: torch.Tensor) -> bool:
    return bool(tensor.isfinite().all())


# The files layout

FLOATS = {torch.float16, torch.bfloat16, torch.float32}


@functools.cache
def names_of_images(width: int, height: int) -> dict[str, str]:
    """The images by the names that their files have at a size."""
    ids = [path.stem for path in images.iterdir()] if images else []
    return {hashlib.sha1(f"{image}|{width}x{height}|1".encode()).hexdigest(): image for image in ids}


def check_file(path: Path):
    """What is wrong with a file, what others are compared with, and the statistics of its prediction."""
    wrong = []
    digest, size = path.stem.split("_")
    width, height = map(int, size.split("x"))
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except safetensors.SafetensorError as error:
        return [f"{path}: {error}"], None, None
    if set(tensors) - {"pooled_embeds"} != {"teacher_pred", "noise", "timestep", "seed", "resolution", "encoder_hidden_states"}:
        return [f"{path}: tensors {sorted(tensors)}"], None, None
    prediction, noise, states = tensors["teacher_pred"], tensors["noise"], tensors["encoder_hidden_states"]
    shape = (4, height // 8, width // 8)
    if prediction.shape != shape or noise.shape != shape or states.dim() != 2:
        wrong.append("shapes")
    if any(tensors[key].dtype not in FLOATS for key in ("teacher_pred", "noise", "encoder_hidden_states")):
        wrong.append("dtypes")
    if tensors["resolution"].tolist() != [width, height]:
        wrong.append("resolution")
    wrong += [f"{key} is not finite" for key, value in tensors.items() if value.dtype in FLOATS and not is_finite(value)]
    seed, timestep = tensors["seed"].item(), tensors["timestep"].item()
    image = names_of_images(width, height).get(digest)
    if image is None:
        wrong.append("no image has this name")
    elif seed != int.from_bytes(hashlib.sha256(f"{image}|{BASE_SEED}".encode()).digest()[:4], "big"):
        wrong.append("seed")
    if timestep != torch.randint(0, TIMESTEPS, (1,), generator=generator(seed)).item():
        wrong.append("timestep")
    known = torch.equal(torch.randn(shape, generator=generator(seed)).to(noise.dtype), noise)
    row = (timestep, *moments(prediction, noise))
    facts = (seed, timestep, noise, states, tensors.get("pooled_embeds"))
    return [f"{path}: {what}" for what in wrong], facts, (row, known)


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is b if a is None or b is None else torch.equal(a, b)


def check_entry(entry: tuple[str, list[str]]):
    """An entry of all teachers."""
    name, teachers = entry
    wrong, rows, first = [], [], None
    for teacher in teachers:
        findings, facts, row = check_file(cache / teacher / name)
        wrong += findings
        if facts is None:
            continue
        rows.append((teacher, *row))
        if first is None:
            first = facts
        elif facts[:2] != first[:2] or not all(map(same, facts[2:], first[2:])):
            wrong.append(f"{teacher}/{name}: teachers differ")
    return wrong, rows


def verify_files(run):
    entries = defaultdict(list)
    for path in sorted(cache.glob("*/*.safetensors")):
        entries[path.name].append(path.parent.name)
    teachers = {teacher for names in entries.values() for teacher in names}
    wrong = [f"{name}: not of all teachers" for name, names in entries.items() if len(names) != len(teachers)]
    rows, known = defaultdict(list), defaultdict(int)
    for findings, found in run(check_entry, entries.items()):
        wrong += findings
        for teacher, row, is_known in found:
            rows[teacher].append(row)
            known[teacher] += is_known
    for teacher in teachers:
        if known[teacher] != len(rows[teacher]):
            wrong.append(f"{teacher}: noise of another generator")
    return outcome(wrong, rows, sum(map(len, entries.values())))


# Shards


def canonical(document) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_document(path: Path):
    """A document, its digest, and whether it is in its canonical form."""
    data = path.read_bytes()
    document = json.loads(data)
    return document, hashlib.sha256(data).hexdigest(), canonical(document) == data


def philox_first_words(seeds: numpy.ndarray, stream: int) -> numpy.ndarray:
    """The first word of block 0 of Philox4x32-10 for each seed."""
    low = numpy.uint64(0xFFFFFFFF)
    k, l = seeds & low, seeds >> numpy.uint64(32)
    a, b, c, d = (numpy.full_like(seeds, value) for value in (0, 0, stream, 0))
    for _ in range(10):
        p, q = numpy.uint64(0xD2511F53) * a, numpy.uint64(0xCD9E8D57) * c
        a, b, c, d = q >> numpy.uint64(32) ^ b ^ k, q & low, p >> numpy.uint64(32) ^ d ^ l, p & low
        k, l = k + numpy.uint64(0x9E3779B9) & low, l + numpy.uint64(0xBB67AE85) & low
    return a


@functools.cache
def documents():
    """Plan, seal and digests of every component, and what is wrong with them. Kept for the shards of one iteration."""
    found, wrong = {}, []
    for folder in [cache / "latents", cache / "text", *sorted((cache / "teachers").iterdir())]:
        plan, plan_digest, is_plan = read_document(folder / "plan.json")
        seal, seal_digest, is_seal = read_document(folder / "seal.json")
        name = folder.relative_to(cache).as_posix()
        if not (is_plan and is_seal and seal["plan"] == plan_digest and seal["component"] == name):
            wrong.append(f"{name}: documents")
        found[name] = (plan, plan_digest, seal, seal_digest)
    for name, (plan, _, seal, _) in found.items():
        needed = {part: found[part] for part in ("latents", "text")} if plan["component"] == "teacher" else {}
        if any(plan[part] != digest or seal["dependencies"][part] != sealed for part, (_, digest, _, sealed) in needed.items()):
            wrong.append(f"{name}: dependencies")
    return found, wrong


def name_of(plan, found, record: int) -> tuple[str, str | None]:
    """The name of a record, and of a teacher's the text that its seed is made of."""
    if plan["component"] == "latents":
        view = plan["views"][record]
        return f"{view['image']}|{view['view']}", None
    if plan["component"] == "text":
        return plan["captions"][record], None
    sample, draw = divmod(record, plan["draws"])
    view, caption = plan["samples"][sample]
    entry = found["latents"][0]["views"][view]
    text = hashlib.sha256(found["text"][0]["captions"][caption].encode()).hexdigest()
    about = f"{entry['image']}|{entry['view']}"
    return f"{about}|{text}|{draw}", f"{about}|{draw}|{plan['noise']['baseSeed']}"


def check_shard(job: tuple[str, int, int]):
    from blake3 import blake3

    component, index, start = job
    found, _ = documents()
    plan, plan_digest, seal, _ = found[component]
    info = seal["shards"][index]
    data = (cache / component / info["file"]).read_bytes()
    wrong, rows = [], []
    if len(data) != info["bytes"] or blake3(data).hexdigest() != info["blake3"]:
        wrong.append("digest")
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
    if metadata != {"plan": plan_digest, "shard": str(index)}:
        wrong.append("metadata")
    tensors = safetensors.torch.load(data)
    if any(len(tensor) != info["records"] for tensor in tensors.values()):
        wrong.append("records")
    floats = {key: value for key, value in tensors.items() if key not in ("key", "seed", "timestep")}
    wrong += [f"{key} is not finite" for key, value in floats.items() if value.dtype != torch.float16 or not is_finite(value)]
    names = [name_of(plan, found, record) for record in range(start, start + info["records"])]
    keys = b"".join(hashlib.sha256(name.encode()).digest() for name, _ in names)
    if tensors["key"].numpy().tobytes() != keys:
        wrong.append("keys")
    if plan["component"] == "teacher":
        seeds = numpy.array([int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") for _, key in names], numpy.uint64)
        low, high = plan["timesteps"]
        draws = numpy.arange(start, start + info["records"]) % plan["draws"]
        shares = (draws + philox_first_words(seeds, 1) * 2.0**-32) / plan["draws"]
        timesteps = low + numpy.floor(shares * (high - low)).astype(numpy.int64)
        if (tensors["seed"].numpy() != seeds).any() or (tensors["timestep"].numpy() != timesteps).any():
            wrong.append("draws")
        for field in plan["fields"]:
            for seed, timestep, prediction in zip(seeds.tolist(), timesteps.tolist(), tensors[field]):
                noise = torch.randn(prediction.shape, generator=generator(seed))
                rows.append((timestep, *moments(prediction, noise)))
    return component, [f"{component}/{info['file']}: {what}" for what in wrong], rows


def verify_shards(run):
    documents.cache_clear()
    found, wrong = documents()
    wrong, jobs, rows = list(wrong), [], defaultdict(list)
    for component, (_, _, seal, _) in found.items():
        start = 0
        for index, info in enumerate(seal["shards"]):
            jobs.append((component, index, start))
            start += info["records"]
    for component, findings, measured in run(check_shard, jobs):
        wrong += findings
        if measured:
            rows[component] += measured
    return outcome(wrong, rows, sum(seal["records"] for _, _, seal, _ in found.values()))


# Both


def outcome(wrong, rows, entries: int):
    """What both sides say of a cache: whether it is sound, and the statistics of its predictions."""
    bands = {}
    for teacher, measured in rows.items():
        t, pp, pt, tt, n = numpy.array(measured).T
        slope, correlation = numpy.median(pt / pp), numpy.median(pt / numpy.sqrt(pp * tt))
        if not 0.5 <= slope <= 2 or correlation < 0.1:
            wrong.append(f"{teacher}: implausible")
        bands[teacher] = []
        for band in range(BANDS):
            inside = t.astype(int) * BANDS // TIMESTEPS == band
            if inside.any():
                p, c, e = pp[inside].sum(), pt[inside].sum(), tt[inside].sum()
                values = [inside.sum(), (p / n[inside].sum()) ** 0.5, c / (p * e) ** 0.5, c / p]
                bands[teacher].append([float(value) for value in values])
    return {"verdict": "damaged" if wrong else "ok", "entries": entries, "bands": bands, "wrong": wrong[:5]}


def start_worker() -> None:
    torch.set_num_threads(1)


def main() -> None:
    start_worker()
    verify = {"files": verify_files, "shards": verify_shards}[layout]
    versions = {"torch": torch.__version__, "safetensors": safetensors.__version__, "python": sys.version.split()[0]}
    if processes == 1:
        introduction = {"versions": versions, "outcome": verify(map)}
        serve(introduction, lambda: verify(map))
        return
    with multiprocessing.Pool(processes, start_worker) as pool:
        run = functools.partial(pool.imap_unordered, chunksize=4)
        serve({"versions": versions, "outcome": verify(run)}, lambda: verify(run))


if __name__ == "__main__":
    main()
