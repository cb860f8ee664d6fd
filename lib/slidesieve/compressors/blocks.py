"""The transformer blocks that scorers, denoisers and resamplers are made of."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from slidesieve.compressors.rows import by_rows


class Block(nn.Module):
    """A pre-norm transformer block whose attention may be global or from each token to itself."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        if width % heads:
            raise ValueError(f"transformer block: width {width} is not a multiple of {heads} heads; set scorer_heads")
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_ffn = nn.LayerNorm(width)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def attend_all(self, x: Float[Tensor, "b n w"], mask: Tensor | None) -> Float[Tensor, "b n w"]:
        """Attend wherever `mask` (broadcast to b h n n) is True; None: everywhere. Linear memory by SDPA."""
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b n (three h w) -> three b h n w", three=3, h=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._feed_forward(x + self.out(rearrange(mixed, "b h n w -> b n (h w)")))

    def attend_self(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """A softmax over one key is 1: attention to oneself is the value path alone."""
        width = x.shape[-1]

        def mixed(part: Tensor) -> Tensor:
            value = F.linear(self.norm_attention(part), self.qkv.weight[-width:], self.qkv.bias[-width:])
            return self._feed_forward(part + self.out(value))

        return by_rows(mixed, x, dim=1)

    def _feed_forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        return by_rows(lambda part: part + self.ffn(self.norm_ffn(part)), x, dim=1)


class CrossAttention(nn.Module):
    """Pre-norm attention of one set of tokens to another; what is read, for the caller to add."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.norm_read = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b m w"], read: Float[Tensor, "b n w"], bias: Float[Tensor, "b 1 1 n"] | None
    ) -> Float[Tensor, "b m w"]:
        """`bias` is added to the attention's logits."""
        key_value = by_rows(lambda part: self.key_value(self.norm_read(part)), read, dim=1)
        parts = (self.query(self.norm(x)), *key_value.chunk(2, -1))
        heads = (rearrange(part, "b n (h e) -> b h n e", h=self.heads) for part in parts)
        return self.out(rearrange(F.scaled_dot_product_attention(*heads, attn_mask=bias), "b h n e -> b n (h e)"))


def keys_of(mask: Bool[Tensor, "b n"] | None) -> Bool[Tensor, "b 1 1 n"] | None:
    """The real tokens as an attention mask; None, which is faster, where all are."""
    return None if mask is None or mask.all() else rearrange(mask, "b n -> b 1 1 n")
