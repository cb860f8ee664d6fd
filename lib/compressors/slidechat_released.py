"""SlideChat's slide encoder as it was released: the network of `slidechat`, in which no tile looks at another.

The release hands LongNet the bag as (n, 1, d), a batch of n sequences of one tile, where (1, n, d) was meant. A softmax
over one key is 1 and every dilated branch holds the token itself or nothing, so attention is the value path alone:

    x <- x + W_o LN(W_v LN(x)),    x <- x + W_2 LN(gelu(W_1 LN(x))),    LN at the end

Departures
- Queries and keys are computed by the release and cancel; here they are not computed. Their parameters stay, with a
  gradient of zero, so that the number of parameters and their names are those of the paper's network.
- As in the release, the projections to queries, keys and values keep nn.Linear's own first weights, and drop-path draws
  once a tile, each tile being a sequence; `slidechat` has sub-LN's rule, and draws once a slide.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lib.compressors.slidechat import Layer, LongNet


class LongNetReleased(LongNet):
    """Encode each tile by itself: tokens (b n d) to tokens (b n d), zero on padding."""

    def __init__(self, d: int, *, layers: int = 2, heads: int = 8, dropout: float = 0.1, drop_path: float = 0.1):
        super().__init__(d, layers=layers, heads=heads, dropout=dropout, drop_path=drop_path)

    @staticmethod
    def layer_class() -> type[Layer]:
        return TokenwiseLayer

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        encoded = torch.zeros_like(x)
        encoded[mask] = self._encode(x[mask]).to(x.dtype)
        return encoded


class TokenwiseLayer(Layer):
    """A layer of sequences of one tile."""

    def draw_weights(self, *, gain: float) -> None:
        """Xavier initialisation, scaled by `gain`, of all but queries, keys and values."""
        for linear in (self.out, self.widen, self.narrow):
            nn.init.xavier_uniform_(linear.weight, gain=gain)
            nn.init.zeros_(linear.bias)

    def _mixed(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        d = x.shape[-1]
        return F.linear(x, self.qkv.weight[-d:], self.qkv.bias[-d:])

    def _dropped(self, branch: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        if not (self.training and self.drop_path):
            return self.dropout(branch)
        keep = 1 - self.drop_path
        return self.dropout(branch) * (torch.rand(len(branch), 1, device=branch.device) < keep) / keep
