"""A LoRA beside the layers of a model, as peft computes it, without its wrappers: what peft could be at its fastest."""

import torch
from torch import nn


class LoraLinear(nn.Module):
    """base(x) + up(down(x)) for alpha = rank; the base is frozen."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(x))


def attach(model, rank):
    """Puts a LoRA on every attention layer of a frozen model; returns (name, factor) by name, peft's names."""
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (".attn1." in name or ".attn2." in name)
    ]
    factors = []
    for name in targets:
        parent, _, child = name.rpartition(".")
        layer = LoraLinear(model.get_submodule(name), rank)
        # `to_out.0` is an item of a list.
        setattr(model.get_submodule(parent), child, layer)
        factors += [(f"{name}.lora_A.weight", layer.lora_A.weight), (f"{name}.lora_B.weight", layer.lora_B.weight)]
    return sorted(factors)


@torch.no_grad()
def norms(factors):
    """The norms of the factors' gradients, by name."""
    return {name: factor.grad.double().norm().item() for name, factor in factors}
