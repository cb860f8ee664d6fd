"""The models of bag classification, by name: a compressor with a head over its tokens, or attention over all tiles.

ABMIL, gated ABMIL and TransMIL are torchmil's; their last layer is widened to one logit a class. Gated ABMIL reads
features through Linear(d, 256), ReLU and dropout 0.25, the stronger of its settings on the cohorts of reports/LOG.md.
"""

from importlib import import_module

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.compressors.registry import COMPRESSORS
from lib.method_options import check_options, options_of
from lib.mil import BagClassifier, GatedAttentionHead

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
        return BagClassifier(compressor, GatedAttentionHead(d, classes))


def _torchmil(name: str) -> type[nn.Module]:
    """A model of torchmil, which only these baselines need."""
    try:
        models = import_module("torchmil.models")
    except ImportError as error:
        raise ValueError(f"{name}: torchmil is not installed; pip install torchmil, or leave it out") from error
    return getattr(models, name)


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
