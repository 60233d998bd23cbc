"""transformers' CLIP on torch: `python torch_text.py THREADS WORKLOAD`, the workload as JSON. The protocol is `lib/peer.ts`'s.

Weights are those of `ts/bench/text.ts`; the tokens are given.
"""

import json
import sys

import torch
import transformers
from serve import serve
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from weights import gemm_peak, packed, seed_weights

work = json.loads(sys.argv[2])
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)

encoders = []
for encoder in work["encoders"]:
    config = CLIPTextConfig(**encoder["config"])
    projected = "CLIPTextModelWithProjection" in encoder["config"]["architectures"]
    model = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
    seed_weights(model, encoder["weightsSeed"])
    encoders.append((model.eval().requires_grad_(False), torch.tensor(encoder["tokenIds"])))


def run():
    """As diffusers' pipelines: SD1.5's last hidden state; SDXL's second-last ones side by side, and the pooled text."""
    with torch.inference_mode():
        if len(encoders) == 1:
            [(model, ids)] = encoders
            return (model(ids).last_hidden_state,)
        outputs = [model(ids, output_hidden_states=True) for model, ids in encoders]
        hidden = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return hidden, outputs[-1].text_embeds


introduction = {
    "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    "gemmFlopsPerSecond": gemm_peak(),
    "output": packed(torch.cat([part.flatten() for part in run()])),
}
serve(introduction, run)
