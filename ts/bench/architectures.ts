/** A full-size model, by the name of `--arch`. */
export type Architecture = 'sd15' | 'sdxl';

/** Full-size UNets: diffusers' configurations, with its defaults left out. */
export const UNETS = {
  sd15: {
    _class_name: 'UNet2DConditionModel',
    sample_size: 64,
    in_channels: 4,
    out_channels: 4,
    block_out_channels: [320, 640, 1280, 1280],
    down_block_types: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'],
    up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
    layers_per_block: 2,
    attention_head_dim: 8,
    cross_attention_dim: 768,
  },
  sdxl: {
    _class_name: 'UNet2DConditionModel',
    sample_size: 128,
    in_channels: 4,
    out_channels: 4,
    block_out_channels: [320, 640, 1280],
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
    layers_per_block: 2,
    transformer_layers_per_block: [1, 2, 10],
    attention_head_dim: [5, 10, 20],
    cross_attention_dim: 2048,
    use_linear_projection: true,
    addition_embed_type: 'text_time',
    addition_time_embed_dim: 256,
    projection_class_embeddings_input_dim: 2816,
  },
} as const satisfies Record<Architecture, object>;

/** The VAE of SD1.5 (SDXL's has the same layers and another scaling factor): diffusers' configuration. */
export const VAE = {
  _class_name: 'AutoencoderKL',
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  block_out_channels: [128, 256, 512, 512],
  down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D', 'DownEncoderBlock2D'],
  up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D', 'UpDecoderBlock2D'],
  layers_per_block: 2,
  scaling_factor: 0.18215,
} as const;

/** CLIP ViT-L/14's text encoder: transformers' configuration. */
const CLIP_L = {
  model_type: 'clip_text_model',
  architectures: ['CLIPTextModel'],
  vocab_size: 49_408,
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  max_position_embeddings: 77,
  hidden_act: 'quick_gelu',
  projection_dim: 768,
  eos_token_id: 49_407,
} as const;

/** OpenCLIP ViT-bigG/14's. */
const CLIP_G = {
  ...CLIP_L,
  architectures: ['CLIPTextModelWithProjection'],
  hidden_size: 1280,
  intermediate_size: 5120,
  num_hidden_layers: 32,
  num_attention_heads: 20,
  hidden_act: 'gelu',
  projection_dim: 1280,
} as const;

/** Text encoders, first to last. */
export const TEXT_ENCODERS = { sd15: [CLIP_L], sdxl: [CLIP_L, CLIP_G] } as const satisfies Record<
  Architecture,
  readonly object[]
>;
