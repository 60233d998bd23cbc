"""Whether adapters that potstill writes do in peft and diffusers what they did before: run by hand, recorded in bench/results.

    venv/bin/pip install -r test/fixtures/requirements.txt
    venv/bin/python test/interop/adapters.py   # a minute; needs `npm run setup`; writes bench/results/interop-adapters.json

LoRAs on the demo's models of both shapes, UNet and text encoders, made by peft, are converted by potstill's command line into
each dialect and loaded again by who reads it: kohya's and diffusers' by diffusers, peft's by peft, ComfyUI's through potstill by
diffusers. What each layer's weight is changed by must be what peft computed at first, to within the rounding of f16 factors.
transformers 5 has dropped `text_model.` from the first text encoder's names, and neither peft nor diffusers translates the published
ones, which potstill writes: in files with these names they are renamed here first. kohya's need nothing.
"""

import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import diffusers
import peft
import torch
import transformers
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parent.parent.parent
POTSTILL = ["node", str(ROOT / "dist/cli/main.js")]
RESULT = ROOT / "bench/results/interop-adapters.json"
SHAPES = dict(sd15=("base", StableDiffusionPipeline), sdxl=("base-sdxl", StableDiffusionXLPipeline))
UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"]
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
RANK, ALPHA = 4, 6.0
# Both factors are rounded to f16 (2⁻¹¹ each, of their largest digits): ‖difference‖ / ‖change‖ of a layer.
F16 = 2e-3

done = []


def check(what, worst, count):
    holds = worst <= F16 and count > 0
    done.append(dict(check=what, layers=count, worst=worst))
    print("ok  " if holds else "FAIL", what, f"{count} layers, {worst:.1e}", flush=True)
    if not holds:
        raise SystemExit(1)


def potstill(*words):
    run = subprocess.run([*POTSTILL, *map(str, words)], capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit(f"potstill {' '.join(map(str, words))}: exit code {run.returncode}\n{run.stdout}{run.stderr}")


def components(pipeline):
    return {name: getattr(pipeline, name) for name in ("unet", "text_encoder", "text_encoder_2") if hasattr(pipeline, name)}


def opened(shape):
    folder, pipeline = SHAPES[shape]
    return pipeline.from_pretrained(ROOT / "configs/demo" / folder, torch_dtype=torch.float32)


def renamed(path, encoder):
    """Rewrites a file with text layers, or peft's folder, for a first encoder that has no `text_model`."""
    if hasattr(encoder, "text_model"):
        return
    without = lambda text: re.sub(r"(text_encoder\.|base_model\.model\.|\"|^)text_model\.", r"\1", text)
    weights = path / "adapter_model.safetensors" if path.is_dir() else path
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    tensors = {k if k.startswith("text_encoder_2.") else without(k): t for k, t in load_file(weights).items()}
    if "lora_adapter_metadata" in metadata:
        own = json.loads(metadata["lora_adapter_metadata"])
        own = {k: json.loads(without(json.dumps(v))) if k.startswith("text_encoder.") else v for k, v in own.items()}
        metadata["lora_adapter_metadata"] = json.dumps(own)
    save_file(tensors, weights, metadata=metadata)
    if path.is_dir():
        config = path / "adapter_config.json"
        config.write_text(without(config.read_text()))


def changes(modules):
    """{component and path: the change of its weight} of what is attached."""
    found = {}
    for name, model in modules.items():
        for path, layer in model.named_modules():
            if isinstance(layer, BaseTunerLayer):
                (adapter,) = layer.lora_A.keys()
                path = path.removeprefix("base_model.model.").removeprefix("text_model.")
                found[f"{name}.{path}"] = layer.get_delta_weight(adapter).detach().double().flatten(1)
    return found


def compare(what, wanted, found):
    if wanted.keys() != found.keys():
        raise SystemExit(f"{what}: other layers: {sorted(wanted.keys() ^ found.keys())[:4]}")
    worst = max(float((found[k] - wanted[k]).norm() / wanted[k].norm()) for k in wanted)
    check(what, worst, len(wanted))


def attached(shape):
    """A pipeline with LoRAs of seeded factors on it, by peft."""
    pipeline = opened(shape)
    generator = torch.Generator().manual_seed(7)
    for name, model in components(pipeline).items():
        layers = UNET_LAYERS if name == "unet" else TEXT_LAYERS
        model.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, init_lora_weights=False, target_modules=layers))
        with torch.no_grad():
            for path, p in model.named_parameters():
                if ".lora_" in path:
                    p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return pipeline


def saved(pipeline, folder):
    """The pipeline's LoRAs as diffusers writes them."""
    layers, metadata = {}, {}
    for name, model in components(pipeline).items():
        layers[name] = get_peft_model_state_dict(model)
        config = next(iter(model.peft_config.values())).to_dict()
        metadata[name] = {k: list(v) if isinstance(v, set) else v for k, v in config.items()}
    pipeline.save_lora_weights(folder, **{f"{name}_lora_layers": state for name, state in layers.items()},
                               **{f"{name}_lora_adapter_metadata": data for name, data in metadata.items()})
    return folder / "pytorch_lora_weights.safetensors"


def run(shape, work):
    model = ROOT / "configs/demo" / SHAPES[shape][0]
    made = attached(shape)
    wanted = changes(components(made))
    source = saved(made, work / shape)

    def convert(path, dialect, out):
        potstill("lora", "convert", path, "--model", model, "--dialect", dialect, "--dtype", "f16", "--out", out)

    for dialect in ("kohya", "diffusers", "comfy"):
        out = work / f"{shape}-{dialect}.safetensors"
        convert(source, dialect, out)
        if dialect == "comfy":
            back = work / f"{shape}-back.safetensors"
            convert(out, "diffusers", back)
            out = back
        reader = opened(shape)
        if dialect != "kohya":
            renamed(out, reader.text_encoder)
        reader.load_lora_weights(out)
        compare(f"{shape}: {dialect}, read by diffusers", wanted, changes(components(reader)))
    out = work / f"{shape}-peft"
    convert(source, "peft", out)
    reader = components(opened(shape))
    renamed(out / "text_encoder", reader["text_encoder"])
    whole = {name: PeftModel.from_pretrained(model, out / name) for name, model in reader.items()}
    compare(f"{shape}: peft, read by peft", wanted, changes(whole))


def main():
    with tempfile.TemporaryDirectory() as folder:
        for shape in SHAPES:
            run(shape, Path(folder))
    versions = dict(python=platform.python_version(), torch=torch.__version__, diffusers=diffusers.__version__,
                    peft=peft.__version__, transformers=transformers.__version__)
    RESULT.write_text(json.dumps(dict(benchmark="interop-adapters", versions=versions, checks=done), indent=2) + "\n")
    print(f"{len(done)} checks, {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
