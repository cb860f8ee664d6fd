"""The models of bag classification, by name: a compressor with a head over its tokens, or attention over all tiles.

ABMIL, gated ABMIL and TransMIL are torchmil's; their last layer is widened to one logit a class. Gated ABMIL reads
features through Linear(d, 256), ReLU and dropout 0.25, the stronger of its settings on the cohorts of reports/LOG.md.

Head, gated attention (Ilse et al. 2018, Eq. 9) over h_i = dropout(relu(V0 z_i)), where z_i are the compressor's tokens:

    e_i = w^T (tanh(V h_i) * sigmoid(U h_i)) + log m_i,   a = softmax(e),   logits = W sum_i a_i h_i

m_i is the mass with which the compressor keeps token i (its row of `Compressed.weights` summed, at most 1). It is ours:
on SparseLearn's soft path m_i = alpha_i, so that what the gate has turned into noise is also read little; on every hard
path m_i = 1 and the term vanishes. So the head reads k raw tokens at the temperature's limit and in evaluation alike.
"""

from collections.abc import Sequence
from importlib import import_module

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.compressors.result import Compressed
from slidesieve.models.options import check_options, options_of, own_options

ATTENTION = ("abmil", "gated_abmil", "transmil")
LIFTED = 256
LANDMARKS, TRANSMIL_WIDTH, TRANSMIL_HEADS = 16, 128, 4


def bag_model(name: str, *, d: int, classes: int, k: int, seed: int, options: dict | None = None) -> nn.Module:
    """Make a model of bags of width d: a compressor's name, or one of ATTENTION (k and options unused). Seeded."""
    if name not in (*COMPRESSORS, *ATTENTION):
        raise ValueError(f"bag classification: no model {name!r}; there are {', '.join((*COMPRESSORS, *ATTENTION))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "transmil":
            return TransMIL(d, classes)
        if name in ATTENTION:
            return ABMIL(d, classes, gated=name == "gated_abmil")
        check_options(options_of(COMPRESSORS[name]), options or {}, of=name)
        compressor = COMPRESSORS[name](d, k, seed=seed, **(options or {}))
        return BagClassifier(compressor, GatedAttentionHead(compressor.width or d, classes))


def with_options(compressor: str, options: dict, baselines: Sequence[str]) -> dict[str, dict]:
    """A model and its options for each name: a baseline takes those of the compressor's that it has too."""
    others = [name for name in baselines if name != compressor]
    return {compressor: options} | {
        name: own_options(COMPRESSORS[name], options) if name in COMPRESSORS else {} for name in others
    }


class ABMIL(nn.Module):
    """torchmil's ABMIL (Ilse et al. 2018), plain or gated."""

    def __init__(self, d: int, classes: int, *, gated: bool):
        super().__init__()
        model = _torchmil("ABMIL")
        width = LIFTED if gated else d
        lift = nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Dropout(0.25)) if gated else nn.Identity()
        self.model = model(in_shape=(d,), gated=gated, feat_ext=lift)
        self.model.classifier = nn.Linear(width, classes)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b c"], Float[Tensor, ""]]:
        return self.model(x, mask.to(x.dtype)), x.new_zeros(())

    def attention(
        self, x: Float[Tensor, "b n d"], coords: Int[Tensor, "b n 2"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n"]:
        """Attention before its softmax."""
        return self.model(x, mask.to(x.dtype), return_att=True)[1]


class TransMIL(nn.Module):
    """torchmil's TransMIL (Shao et al. 2021), small: 128 wide, 4 heads, 16 landmarks. It takes no mask: bag by bag."""

    def __init__(self, d: int, classes: int):
        super().__init__()
        model = _torchmil("TransMIL")
        self.model = model(
            in_shape=(d,), att_dim=TRANSMIL_WIDTH, n_heads=TRANSMIL_HEADS, n_landmarks=LANDMARKS, dropout=0.1
        )
        self.model.classifier = nn.Linear(TRANSMIL_WIDTH, classes)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b c"], Float[Tensor, ""]]:
        logits = [self.model(bag[real].unsqueeze(0)) for bag, real in zip(x, mask, strict=True)]
        return torch.cat(logits), x.new_zeros(())


class GatedAttentionHead(nn.Module):
    """Tokens to class logits by gated attention; `dropout` stands behind the first layer."""

    def __init__(self, d: int, classes: int, *, width: int = 256, attention: int = 128, dropout: float = 0.25):
        super().__init__()
        self.lift = nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Dropout(dropout))
        self.v, self.u = nn.Linear(width, attention), nn.Linear(width, attention)
        self.w = nn.Linear(attention, 1, bias=False)
        self.out = nn.Linear(width, classes)

    def forward(
        self, tokens: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"], log_mass: Float[Tensor, "b m"]
    ) -> Float[Tensor, "b c"]:
        h = self.lift(F.layer_norm(tokens, tokens.shape[-1:]))
        e = self.w(self.v(h).tanh() * self.u(h).sigmoid()).squeeze(-1) + log_mass
        a = e.masked_fill(~mask, torch.finfo(e.dtype).min).softmax(-1) * mask
        return self.out(torch.einsum("bm,bmw->bw", a, h))


class BagClassifier(nn.Module):
    """A compressor and a head over its tokens: logits of mutually exclusive classes, and the compressor's own loss."""

    def __init__(self, compressor: nn.Module, head: nn.Module):
        super().__init__()
        self.compressor, self.head = compressor, head

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        coords: Int[Tensor, "b n 2"],
        mask: Bool[Tensor, "b n"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "b c"], Float[Tensor, ""]]:
        kept: Compressed = self.compressor(x, coords, mask, generator)
        return self.head(kept.tokens, kept.mask, log_mass(kept)), kept.aux_loss


def log_mass(kept: Compressed) -> Float[Tensor, "b m"]:
    """Return the logarithm of the mass behind each token, at most 0; no gradient passes. 0 where it is not known."""
    if kept.weights is None:
        return kept.tokens.new_zeros(kept.mask.shape)
    weights = kept.weights.detach()
    mass = torch.sparse.sum(weights, dim=-1).to_dense() if weights.is_sparse else weights.sum(-1)
    return mass.clamp(torch.finfo(mass.dtype).tiny, 1).log()


def _torchmil(name: str) -> type[nn.Module]:
    """A model of torchmil, which only these baselines need."""
    try:
        models = import_module("torchmil.models")
    except ImportError as error:
        raise ValueError(f"{name}: torchmil is not installed; pip install torchmil, or leave it out") from error
    return getattr(models, name)
