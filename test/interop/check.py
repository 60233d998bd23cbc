"""Whether what potstill writes is what others read, and the other way round: run by hand, recorded in bench/results.

    venv/bin/pip install -r test/fixtures/requirements.txt accelerate==1.15.0 bitsandbytes==0.50.2
    venv/bin/python test/interop/check.py [MODEL…]   # a few minutes; needs `npm run setup`; writes bench/results/interop.json

Models with all tensors of the published ones (models.py) are written by diffusers, converted by potstill's command line,
loaded by diffusers again, and compared to the bit; then both draw the same pictures. Every check is named; the first that
fails ends the run.
"""

import gzip
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bitsandbytes
import diffusers
import numpy as np
import safetensors
import torch
import transformers
from diffusers.loaders.single_file_utils import infer_diffusers_model_type
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import quantized
from models import COMPONENTS, MODELS

ROOT = Path(__file__).parent.parent.parent
POTSTILL = ["node", str(ROOT / "dist/cli/main.js")]
RESULT = ROOT / "bench/results/interop.json"
# A picture's sides; SDXL is told other sizes than these, below.
WIDTH, HEIGHT, STEPS, GUIDANCE, SEED = 96, 64, 6, 4.0, 11
PROMPT, NEGATIVE = "a red apple, It's 3 dogs", "blurry!"
# diffusers and potstill compute in f32, in another order: the worst of 18,432 values after rounding to 256 levels.
MOST_LEVELS_APART = 1

done = []


def check(what, holds, note=""):
    done.append(dict(check=what, **(dict(note=note) if note else {})))
    print("ok  " if holds else "FAIL", what, note, flush=True)
    if not holds:
        raise SystemExit(1)


def potstill(*words):
    run = subprocess.run([*POTSTILL, *map(str, words)], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"potstill {' '.join(map(str, words))}: exit code {run.returncode}\n{run.stdout}{run.stderr}")
    return run.stdout


def tensors_of(component):
    """A component's state, whichever prefix this version of transformers has; buffers of no weight left out."""
    state = {name.removeprefix("text_model."): t for name, t in component.state_dict().items()}
    return {name: t for name, t in state.items() if not name.endswith("position_ids")}


def same_bits(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def same_components(a, b, dtype=None):
    def state(pipeline, name):
        tensors = tensors_of(getattr(pipeline, name))
        return {k: t.to(dtype) if dtype else t for k, t in tensors.items()}
    names = [name for name in COMPONENTS if hasattr(a, name)]
    return all(same_bits(state(a, name), tensors_of(getattr(b, name))) for name in names)


def published(kind):
    """The keys of the published single files, with their prefixes, and the rank of each tensor."""
    prefixes = dict(unet_sd15="", unet_sdxl="", vae="", clip_l="cond_stage_model.transformer.", clip_g="")
    wanted = {"sd15": ["unet_sd15", "vae", "clip_l"], "sdxl": ["unet_sdxl", "vae", "clip_l", "clip_g"]}[kind]
    if kind == "sdxl":
        prefixes.update(clip_l="conditioner.embedders.0.transformer.", clip_g="conditioner.embedders.1.model.")
    ranks = {}
    text = gzip.decompress((ROOT / "test/fixtures/keymaps/single_files.tsv.gz").read_bytes()).decode()
    for line in text.splitlines():
        component, _, key, shape = line.split("\t")
        if component in wanted:
            ranks[prefixes[component] + key] = len(shape.split("x")) if shape else 0
    return ranks


def ranks_of(path):
    with safe_open(path, "pt") as file:
        return {key: len(file.get_slice(key).get_shape()) for key in file.keys()}


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def draw(pipeline, latents, **told):
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(PROMPT, latents=latents, height=HEIGHT, width=WIDTH, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
                    output_type="np", **told).images[0]
    return np.rint(np.clip(made, 0, 1) * 255).astype(int)


def compare_pictures(what, model, pipeline, noise, words, **told):
    out = noise.parent / "pictures"
    shutil.rmtree(out, ignore_errors=True)
    potstill("sample", "--model", model, "--prompt", PROMPT, "--size", f"{WIDTH}x{HEIGHT}", "--steps", STEPS, "--guidance",
             GUIDANCE, "--seed", SEED, "--prompt-syntax", "plain", "--out", out, *words)
    (file,) = out.glob("*.png")
    ours = np.asarray(Image.open(file).convert("RGB")).astype(int)
    theirs = draw(pipeline, load_file(noise)["noise"].reshape(1, 4, HEIGHT // 8, WIDTH // 8), **told)
    apart = int(np.abs(ours - theirs).max())
    spread = int(theirs.max() - theirs.min())
    check(what, apart <= MOST_LEVELS_APART and spread > 50, f"{apart} of 255 apart at most")


def rewritten(folder, target, component, file, change, **kept):
    """A copy of a diffusers folder in which one component's tensors are others."""
    shutil.copytree(folder, target)
    path = target / component / file
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return target


def readers(kind, source, reference, work):
    """Every way in which people keep the same weights becomes the same file."""
    bytes_of = lambda folder, name: (potstill("model", "convert", folder, "--out", work / name, "--title", kind),
                                     (work / name).read_bytes())[1]
    wanted = bytes_of(source, "plain.safetensors")
    reference.save_pretrained(work / "sharded", safe_serialization=True, max_shard_size="1MB")
    shards = len(list((work / "sharded/unet").glob("*-of-*.safetensors")))
    check(f"{kind}: a sharded folder is the same file", bytes_of(work / "sharded", "sharded.safetensors") == wanted,
          f"{shards} shards of the UNet")
    reference.save_pretrained(work / "variant", safe_serialization=True, variant="fp16")
    check(f"{kind}: a folder of .fp16 variants is the same file", bytes_of(work / "variant", "v.safetensors") == wanted)
    reference.save_pretrained(work / "both", safe_serialization=True, variant="fp16", max_shard_size="1MB")
    check(f"{kind}: sharded .fp16 variants are the same file", bytes_of(work / "both", "both.safetensors") == wanted)
    keys = set(load_file(source / "text_encoder/model.safetensors"))
    prefixed = any(key.startswith("text_model.") for key in keys)
    swap = (lambda t: {k.removeprefix("text_model."): v for k, v in t.items()}) if prefixed else (
        lambda t: {f"text_model.{k}": v for k, v in t.items()})
    other = rewritten(source, work / "prefix", "text_encoder", "model.safetensors", swap)
    check(f"{kind}: a text encoder {'without' if prefixed else 'with'} `text_model.` is the same file",
          bytes_of(other, "prefix.safetensors") == wanted)
    ids = lambda t: dict(t, **{("text_model." if prefixed else "") + "embeddings.position_ids": torch.arange(77)[None]})
    other = rewritten(source, work / "ids", "text_encoder", "model.safetensors", ids)
    check(f"{kind}: position ids change nothing", bytes_of(other, "ids.safetensors") == wanted)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def older(tensors):
        def name(key):
            for new, was in old.items():
                key = key.replace(f"attentions.0.{new}.", f"attentions.0.{was}.")
            return key
        return {name(key): t for key, t in tensors.items()}
    other = rewritten(source, work / "old", "vae", "diffusion_pytorch_model.safetensors", older)
    check(f"{kind}: a VAE with the old names of attention is the same file", bytes_of(other, "old.safetensors") == wanted)


def model(name, work):
    make, options = MODELS[name]
    kind = name.split("-")[0]
    reference = make(**options)
    cls = type(reference)
    source, file, back = work / "source", work / f"{name}.safetensors", work / "back"
    reference.save_pretrained(source, safe_serialization=True)
    report = json.loads(potstill("model", "inspect", source, "--json"))
    check(f"{name}: potstill reads what diffusers {diffusers.__version__} writes", report["sound"] and report["kind"] == kind)
    potstill("model", "convert", source, "--out", file)

    keys = published(kind)
    if name == "sdxl-v":
        keys.update(v_pred=1, ztsnr=1)
    check(f"{name}: the single file has exactly the published keys and ranks", ranks_of(file) == keys, f"{len(keys)} keys")
    with safe_open(file, "pt") as f:
        inferred = infer_diffusers_model_type({key: f.get_tensor(key) for key in f.keys()})
    check(f"{name}: diffusers takes the file for {inferred}", inferred == {"sd15": "v1", "sdxl": "xl_base"}[kind])
    stated = metadata_of(file)["modelspec.prediction_type"]
    check(f"{name}: modelspec.prediction_type is {stated}", stated == ("v" if name.endswith("-v") else "epsilon"))

    potstill("model", "convert", file, "--out", back)
    loaded = cls.from_pretrained(back)
    check(f"{name}: from_pretrained of the folder gives the weights to the bit", same_components(reference, loaded))
    check(f"{name}: and the scheduler", type(loaded.scheduler) is type(reference.scheduler) and all(
        loaded.scheduler.config[k] == v for k, v in reference.scheduler.config.items() if not k.startswith("_")))
    single = cls.from_single_file(str(file), config=str(back), local_files_only=True)
    check(f"{name}: from_single_file gives the weights to the bit", same_components(reference, single))
    for dtype, torch_dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        half = work / f"{name}-{dtype}.safetensors"
        potstill("model", "convert", file, "--out", half, "--dtype", dtype)
        loaded_half = cls.from_single_file(str(half), config=str(back), local_files_only=True, torch_dtype=torch_dtype)
        check(f"{name}: from_single_file of {dtype} gives torch's rounding to the bit",
              same_components(reference, loaded_half, torch_dtype))
        shutil.rmtree(work / "half", ignore_errors=True)
        potstill("model", "convert", half, "--out", work / "half")
        folder_half = cls.from_pretrained(work / "half", torch_dtype=torch_dtype)
        check(f"{name}: and so does from_pretrained", same_components(reference, folder_half, torch_dtype))
    if not options:
        readers(kind, source, reference, work)
        quantized.in_diffusers(kind, source, work, check, potstill)
        quantized.in_single_files(kind, file, back, work, keys.keys(), check, potstill, cls)

    noise = work / "noise.safetensors"
    potstill("probe", "noise", "--seed", SEED, "--shape", f"4,{HEIGHT // 8},{WIDTH // 8}", "--generator", "philox", "--out", noise)
    sampler = ["--sampler", "ddim" if kind == "sd15" else "euler"]
    if name == "sdxl-v":
        sampler += ["--spacing", "trailing"]
    for path, what in ((file, "file"), (back, "folder")):
        compare_pictures(f"{name}: `potstill sample` of the {what} draws diffusers' picture", path, loaded, noise,
                         [*sampler, "--negative", NEGATIVE], negative_prompt=NEGATIVE)
    if name == "sdxl":
        told = dict(original_size=(40, 72), crops_coords_top_left=(5, 9), target_size=(128, 80))
        words = ["--original-size", "72x40", "--crop", "9,5", "--target-size", "80x128"]
        compare_pictures("sdxl: told sizes", file, loaded, noise, [*sampler, *words, "--negative", NEGATIVE],
                         negative_prompt=NEGATIVE, **told, negative_original_size=(40, 72), negative_crops_coords_top_left=(5, 9),
                         negative_target_size=(128, 80))
        compare_pictures("sdxl: zeros as the unconditional", file, loaded, noise, [*sampler, "--uncond", "zeros"])
        loaded.register_to_config(force_zeros_for_empty_prompt=False)
        compare_pictures("sdxl: the empty prompt encoded as the unconditional", file, loaded, noise, sampler)
    if name == "sd15":
        # diffusers looks for the last norm where transformers had it before 5.6.
        if not hasattr(loaded.text_encoder, "text_model"):
            object.__setattr__(loaded.text_encoder, "text_model", loaded.text_encoder)
        # diffusers skips layers for the prompt alone; ComfyUI and A1111, and so potstill, for the negative prompt too.
        negative, _ = loaded.encode_prompt("", "cpu", 1, False, clip_skip=1)
        compare_pictures("sd15: clip skip 1, guidance rescale 0.7", file, loaded, noise,
                         [*sampler, "--clip-skip", 1, "--guidance-rescale", 0.7], clip_skip=1, guidance_rescale=0.7,
                         negative_prompt_embeds=negative)


def main():
    """All models, or those that are named; the record of the others stays."""
    recorded = json.loads(RESULT.read_text())["models"] if RESULT.exists() else {}
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    versions = {lib.__name__: lib.__version__ for lib in (torch, diffusers, transformers, safetensors, bitsandbytes)}
    for name in sys.argv[1:] or MODELS:
        done.clear()
        with tempfile.TemporaryDirectory(prefix="potstill-interop-") as folder:
            model(name, Path(folder))
        recorded[name] = dict(commit=commit, versions=dict(python=platform.python_version(), **versions), passed=len(done),
                              checks=list(done))
        RESULT.write_text(json.dumps(dict(
            benchmark="interop", command="python test/interop/check.py", models=recorded), indent=2) + "\n")
        print(f"{name}: {len(done)} checks, all hold: {RESULT.relative_to(ROOT)}", flush=True)


if __name__ == "__main__":
    main()
