"""The vision transformer of MoCo v3: a patch projection and positions that never learn."""

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lookalike.modules.backbones import Encoder


@torch.no_grad()
def fixed_patches(encoder: Encoder) -> Encoder:
    """The same encoder with new first weights, random patch projection and sine positions, which become buffers.

    No optimizer sees them and a momentum encoder has the same; they are saved with the rest, under the same names.
    Training is less stable where the projection learns (Chen, Xie, He 2021, section 4; facebookresearch/moco-v3,
    vits.py, from which the first weights are too). Draws from torch's global generator, like any first weights.
    Raises ValueError for an encoder that is no vision transformer of timm.
    """
    body = encoder.body
    if not isinstance(body, VisionTransformer) or body.pos_embed is None:
        raise ValueError(
            f"fixed patches are for vision transformers, and {type(body).__name__} is none: leave them out"
        )
    body.init_weights("moco")
    projection: nn.Conv2d = body.patch_embed.proj
    nn.init.xavier_uniform_(projection.weight.flatten(1))  # as the linear layer on pixels that it is
    _keep(projection, "weight", projection.weight.detach().clone())
    if projection.bias is not None:
        _keep(projection, "bias", torch.zeros_like(projection.bias))
    sines_ND = build_sincos2d_pos_embed(list(body.patch_embed.grid_size), dim=body.embed_dim)
    others = body.pos_embed.shape[1] - len(sines_ND)  # the class token, which has no place
    _keep(body, "pos_embed", torch.cat([sines_ND.new_zeros(others, body.embed_dim), sines_ND])[None])
    return encoder


def _keep(module: nn.Module, name: str, value: Tensor) -> None:
    """The value as a buffer, in place of the parameter of that name."""
    delattr(module, name)
    module.register_buffer(name, value)
