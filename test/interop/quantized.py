"""Whether `model quantize` writes what diffusers, bitsandbytes and torch read, and `model convert` reads what torch casts."""

import bitsandbytes as bnb
import torch
import torch._dynamo
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from diffusers import UNet2DConditionModel
from diffusers.quantizers.bitsandbytes.bnb_quantizer import BnB4BitDiffusersQuantizer, BnB8BitDiffusersQuantizer
from safetensors.torch import load_file, save_file

UNET = "model.diffusion_model."
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
FP8 = torch.float8_e4m3fn

# bitsandbytes would compile its decoder anew for every shape.
torch._dynamo.config.disable = True

# diffusers asks for a GPU before it loads weights of bitsandbytes, which computes on CPUs too.
for quantizer in (BnB4BitDiffusersQuantizer, BnB8BitDiffusersQuantizer):
    quantizer.validate_environment = lambda self, *given, **named: None


def decoded(module):
    """A quantized layer's values, as bitsandbytes has them."""
    weight = module.weight
    if isinstance(module, bnb.nn.Linear4bit):
        state = weight.quant_state
        # The CPU's own kernel begins every row with a block; the codes count blocks through the rows.
        return _dequantize_4bit_compute(
            weight.data.reshape(-1), state.absmax.float(), state.code, state.blocksize, state.shape, torch.float32)
    return bnb.functional.int8_vectorwise_dequant(weight.data, weight.SCB)


def in_diffusers(kind, source, work, check, potstill):
    """nf4 and int8: folders that `from_pretrained` loads through bitsandbytes."""
    for form, layer in (("nf4", bnb.nn.Linear4bit), ("int8", bnb.nn.Linear8bitLt)):
        folder, plain = work / form, work / f"{form}-plain"
        potstill("model", "quantize", source, "--format", form, "--out", folder)
        potstill("model", "convert", folder, "--out", plain, "--dtype", "f32")
        ours = load_file(plain / WEIGHTS)
        unet = UNet2DConditionModel.from_pretrained(
            folder, subfolder="unet", device_map={"": "cpu"}, torch_dtype=torch.float32)
        coded = {f"{name}.weight": decoded(m) for name, m in unet.named_modules() if isinstance(m, layer)}
        linear = [name for name, tensor in ours.items() if tensor.dim() == 2]
        check(f"{kind}: from_pretrained of {form} has every linear layer in bitsandbytes' codes", sorted(coded) == sorted(linear),
              f"{len(coded)} layers")
        check(f"{kind}: and decodes them to potstill's values", all(torch.equal(t, ours[name]) for name, t in coded.items()))
        rest = {name: t for name, t in unet.state_dict().items() if name in ours and name not in coded}
        check(f"{kind}: and has the rest to the bit", len(rest) + len(coded) == len(ours)
              and all(torch.equal(t, ours[name]) for name, t in rest.items()))


def in_single_files(kind, file, back, work, keys, check, potstill, pipeline):
    """fp8: ComfyUI's scaled layout, and what people make by a cast alone."""
    scaled, plain = work / "scaled.safetensors", work / "scaled-plain.safetensors"
    potstill("model", "quantize", file, "--format", "fp8", "--out", scaled)
    potstill("model", "convert", scaled, "--out", plain, "--dtype", "f32")
    tensors, ours = load_file(scaled), load_file(plain)
    mark = tensors.pop(f"{UNET}scaled_fp8")
    check(f"{kind}: fp8 has ComfyUI's mark: e4m3, multiplied in full precision", mark.dtype == FP8 and mark.numel() == 2)
    scales = [key for key in tensors if key.endswith(".scale_weight")]
    check(f"{kind}: and the published keys, with a scale of f32 beside every matrix of the UNet",
          tensors.keys() == keys | set(scales) and all(tensors[key].dtype == torch.float32 and tensors[key].dim() == 0 for key in scales),
          f"{len(scales)} scales")
    weights = [key.removesuffix("scale_weight") + "weight" for key in scales]
    check(f"{kind}: torch's e4m3 times the scale are potstill's values", all(
        torch.equal(tensors[key].float() * tensors[scale], ours[key]) for key, scale in zip(weights, scales)))

    cast, plain = work / "cast.safetensors", work / "cast-plain.safetensors"
    original = load_file(file)
    save_file({key: t.to(FP8) if key.startswith(UNET) else t for key, t in original.items()}, cast)
    potstill("model", "convert", cast, "--out", plain, "--dtype", "f32")
    ours = load_file(plain)
    check(f"{kind}: a UNet that torch has cast to e4m3 is read to torch's values", all(
        torch.equal(t.to(FP8).float(), ours[key]) for key, t in original.items() if key.startswith(UNET)))
    theirs = pipeline.from_single_file(str(cast), config=str(back), local_files_only=True, torch_dtype=torch.float32).unet
    folder = work / "cast"
    potstill("model", "convert", plain, "--out", folder)
    wanted = load_file(folder / WEIGHTS)
    check(f"{kind}: and diffusers' from_single_file reads the same of it", all(
        torch.equal(t, wanted[name]) for name, t in theirs.state_dict().items()))
