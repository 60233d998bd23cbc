"""Models with every tensor of the published ones and few channels, as diffusers folders.

Depths are the real ones, so that a single file of such a model has exactly the published keys. Widths are the smallest that
GroupNorm and the shapes allow from which readers conclude the number of heads; they rise where the published ones do, for
there are the convolutions of skip connections.
"""

import torch
from diffusers import (AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline,
                       StableDiffusionXLPipeline, UNet2DConditionModel)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

SD = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
SEED = 20
# Widths of the first and second text encoder, heads of 64 channels. As in the published models they differ, for diffusers'
# `from_single_file` takes a file's first encoder for every encoder of its width (single_file_utils.py,
# `create_diffusers_clip_model_from_ldm`).
TEXT, TEXT_2 = 64, 128
SIZE = 8  # latents along a side


@torch.no_grad()
def fill(model, seed):
    """Random weights that keep activations near one; a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        x = torch.randn(p.shape, generator=generator)
        if p.dim() >= 2:
            x = x / p[0].numel() ** 0.5
        elif "norm" in name and name.endswith("weight"):
            x = 1 + 0.1 * x
        else:
            x = 0.1 * x
        p.copy_(x)
    return model.eval()


def text(cls, width, layers, act, seed):
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, max_position_embeddings=77, hidden_act=act, projection_dim=width, bos_token_id=0,
        eos_token_id=2, pad_token_id=1)
    return fill(cls(config), seed)


def vae(scaling_factor, sample_size):
    return fill(AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[32, 64, 96, 96],
        layers_per_block=2, latent_channels=4, sample_size=sample_size, scaling_factor=scaling_factor), SEED + 1)


def sd15(v_prediction=False):
    unet = fill(UNet2DConditionModel(
        block_out_channels=(32, 64, 96, 96), cross_attention_dim=TEXT, attention_head_dim=8, sample_size=64), SEED)
    scheduler = DDIMScheduler(**SD, clip_sample=False, set_alpha_to_one=False, timestep_spacing="leading",
                              prediction_type="v_prediction" if v_prediction else "epsilon")
    encoder = text(CLIPTextModel, TEXT, 12, "quick_gelu", SEED + 2)
    return StableDiffusionPipeline(vae(0.18215, 512), encoder, None, unet, scheduler, None, None, requires_safety_checker=False)


def sdxl(v_prediction=False):
    unet = fill(UNet2DConditionModel(
        block_out_channels=(64, 128, 192), attention_head_dim=[1, 2, 3], cross_attention_dim=TEXT + TEXT_2, sample_size=128,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], transformer_layers_per_block=[1, 2, 10],
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=TEXT_2 + 6 * 256), SEED)
    scheduler = EulerDiscreteScheduler(
        **SD, rescale_betas_zero_snr=v_prediction, timestep_spacing="trailing" if v_prediction else "leading",
        prediction_type="v_prediction" if v_prediction else "epsilon")
    return StableDiffusionXLPipeline(
        vae(0.13025, 1024), text(CLIPTextModel, TEXT, 12, "quick_gelu", SEED + 2),
        text(CLIPTextModelWithProjection, TEXT_2, 32, "gelu", SEED + 3), None, None, unet, scheduler)


MODELS = {
    "sd15": (sd15, dict()),
    "sd15-v": (sd15, dict(v_prediction=True)),
    "sdxl": (sdxl, dict()),
    "sdxl-v": (sdxl, dict(v_prediction=True)),
}
COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2")
