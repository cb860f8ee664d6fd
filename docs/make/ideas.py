"""Each compressor at work on the made-up slide: which tiles it keeps, and what each of its tokens is made of.

Tables beside the figures: `bag.csv`, a row a tile; `shares.csv`, a row a token and tile (the tile's share in the token,
or, of latents, its share of the last block's attention); `scores.csv`, how much a tile is worth keeping to a method;
`training.csv`, how well what learns has learnt. It is trained to tell which finding is there, by the head and the loop
of `slidesieve.mil`.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from torch import nn

from docs.make.bag import Slides, slide
from slidesieve.compressors.registry import COMPRESSORS, TRAINING_FREE
from slidesieve.features.bag import collate
from slidesieve.mil.models import BagClassifier, bag_model
from slidesieve.mil.training import Annealing, Settings, fit_bags

K, SEED = 8, 7  # tokens; the slide that is drawn
SCORER = {
    "scorer_layers": 1, "scorer_width": 32, "scorer_heads": 4, "scorer_attention": "none", "denoiser": "off",
}  # fmt: skip
LEARNED: Mapping[str, dict] = MappingProxyType(
    {
        "sparselearn": SCORER,
        "sieve": SCORER,
        "attention_topk": {"attention_width": 32},
        "cropr": {"query_heads": 4},
        "tcssa": {"expert_hidden": 32},
        "locpath": {"latents": K, "latent_width": 32, "resampler_blocks": 2, "resampler_heads": 4},
    }
)
ALONE = ("linspace", *TRAINING_FREE, "random", "mean")
SLOW = ("attention_topk", "cropr", "locpath")  # twice the passes, and a higher rate
TRAINING, VALIDATION = 256, 64
TRAINED = ["method", "bags", "steps", "validation_auc"]


def bag_table() -> pd.DataFrame:
    """The slide that is drawn, a row a tile: its place on the plane and on the slide, and its tissue."""
    bag, uv, tissue = slide(SEED, 0)
    column, row = (bag.coords // np.diff(np.unique(bag.coords[:, 0])).min()).T
    u, v = uv.round(4).T
    return pd.DataFrame({"u": u, "v": v, "column": column, "row": row, "tissue": tissue})


class Ideas(NamedTuple):
    """Methods at work on the slide that is drawn."""

    shares: pd.DataFrame
    scores: pd.DataFrame
    training: pd.DataFrame


def ideas(names: Sequence[str]) -> Ideas:
    """Put these methods to work, one after the other."""
    made = [_looked_at(name, *_compressor(name)) for name in names]
    return Ideas(*(pd.concat(tables, ignore_index=True) for tables in zip(*made, strict=True)))


def _compressor(name: str) -> tuple[nn.Module, pd.DataFrame]:
    """A method ready to be used, and a row on its training, if it has one."""
    d = slide(SEED, 0)[0].x.shape[1]
    if name in ALONE:
        return COMPRESSORS[name](d, K, seed=0).eval(), pd.DataFrame(columns=TRAINED)
    model = bag_model(name, d=d, classes=2, k=K, seed=0, options=LEARNED[name])
    lr, epochs = (5e-3, 10) if name in SLOW else (2e-3, 5)
    settings = Settings(lr=lr, epochs=epochs, patience=epochs, batch=8)
    steps = settings.epochs * TRAINING // settings.batch
    with tempfile.TemporaryDirectory() as folder:
        history = fit_bags(
            model, Slides(TRAINING, first=1_000), Slides(VALIDATION, first=5_000), settings, seed=0,
            checkpoint=Path(folder) / "state.pt",
            **({"before_step": _cooling(model, steps)} if model.compressor.softens else {}),
        )  # fmt: skip
    best = history["validation_auc"].max().round(4)
    return model.compressor.eval(), pd.DataFrame([(name, TRAINING, steps, best)], columns=TRAINED)


def _cooling(model: BagClassifier, steps: int) -> Annealing:
    """The budget falls as well as the temperature, as in `benchmarks.needle`."""
    return Annealing(150, model.compressor.k, 1.0, 0.1, round(0.6 * steps))


@torch.no_grad()
def _looked_at(name: str, compressor: nn.Module, training: pd.DataFrame) -> Ideas:
    batch = collate([slide(SEED, 0)[0]])
    found = compressor(*batch.tiles)
    weights = _attention(compressor, batch.tiles) if found.weights is None else found.weights
    weights = (weights.to_dense() if weights.is_sparse else weights)[0]
    token, tile = (weights > 1e-3).nonzero(as_tuple=True)
    real = found.mask[0][token]
    token, tile = token[real], tile[real]
    kept = found.kept[0][token].numpy() if found.kept is not None else -1
    shares = pd.DataFrame(
        {"method": name, "token": token, "tile": tile, "share": weights[token, tile].numpy().round(4), "kept": kept}
    )
    worth = [] if found.scores is None else found.scores[0].numpy().round(4)
    return Ideas(shares, pd.DataFrame({"method": name, "tile": np.arange(len(worth)), "score": worth}), training)


def _attention(locpath: nn.Module, tiles: tuple) -> torch.Tensor:
    """The share of each tile in what each latent reads in the last block, over heads; tiles of a window share alike."""
    seen = []
    reader = locpath.resampler.blocks[-1].read
    hook = reader.register_forward_pre_hook(lambda module, given: seen.append(given))
    locpath(*tiles)
    hook.remove()
    z, tokens, bias = seen[0]
    query, key = reader.query(reader.norm(z)), reader.key_value(reader.norm_read(tokens)).chunk(2, -1)[0]
    query, key = (rearrange(part, "b n (h e) -> b h n e", h=reader.heads) for part in (query, key))
    read = (query @ key.mT / query.shape[-1] ** 0.5 + bias).softmax(-1).mean(1)
    merged = locpath.merger(*tiles)
    return read.gather(2, merged.window[:, None].expand(-1, read.shape[1], -1)) / merged.sizes.gather(
        1, merged.window
    ).unsqueeze(1)
