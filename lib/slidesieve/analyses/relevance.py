"""How few tiles hold the relevance of a slide: of a text's words, and of a trained classifier's attention.

Relevance is a distribution over the slide's tiles. Two sources: a dual encoder's text tower, softmax over tiles of
logit scale x cosine(tile, prompt), for features in the tower's joint space; and gated attention (Ilse et al. 2018) of a
classifier that never saw the slide in training, which says nothing where the classifier cannot tell classes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.special import softmax
from torch import nn

from slidesieve.analyses.sentences import set_out
from slidesieve.cohort.splits import Split
from slidesieve.features.bag import Bag
from slidesieve.features.bag_files import BagView, n_tiles
from slidesieve.mil.folds import Bags, kept, untrained
from slidesieve.mil.training import Settings, bag_auc, bag_logits, fit_bags

MASSES = (0.5, 0.8)
SHARES = ["share_50", "share_80"]  # a column for each of MASSES
AUROCS = ["auroc", "auroc_top", "auroc_random", "auroc_rest"]
COLUMNS = ["source", "fold", *AUROCS, "slide_id", "n_tiles", *SHARES]
ATTENTION, UNTRAINED, ARBITRARY = "attention, trained", "attention, untrained", "random directions"


class TextTower(NamedTuple):
    """Prompts in the joint space of a dual encoder, of length 1, and what their cosines are multiplied by."""

    prompts: list[str]
    unit: Float[np.ndarray, "p d"]
    scale: float


def share_holding(relevance: Float[np.ndarray, " n"], mass: float) -> float:
    """The least share of tiles that hold this much of the relevance, counted in fractions of a tile.

    Equal relevance gives `mass` at any n; one tile with everything gives mass / n. Where the inverse of the Lorenz
    curve of the sorted tiles, linear inside a tile, reaches the mass.
    """
    held = np.concatenate([[0.0], np.sort(relevance.astype(np.float64))[::-1].cumsum()])
    held /= held[-1]
    last = int(np.searchsorted(held, mass - 1e-12))
    inside = (mass - held[last - 1]) / (held[last] - held[last - 1])
    return float((last - 1 + inside) / len(relevance))


def read_text_tower(path_or_id: str, prompts: Sequence[str]) -> TextTower:
    """Embed prompts by a transformers model with `get_text_features` and a logit scale, such as CLIP.

    Raises ValueError without prompts, or for a model without a text tower.
    """
    from transformers import AutoModel, AutoTokenizer  # seconds to import, and needed here only

    if not prompts:
        raise ValueError(f"text_encoder {path_or_id}: got no prompts; set parameter prompts to what is looked for")
    model = AutoModel.from_pretrained(path_or_id, dtype=torch.float32).eval()
    if not (hasattr(model, "get_text_features") and hasattr(model, "logit_scale")):
        raise ValueError(
            f"text_encoder {path_or_id}: {type(model).__name__} has no get_text_features or no logit_scale; "
            "expected a dual encoder such as CLIP; name the one whose image tower made the features"
        )
    words = AutoTokenizer.from_pretrained(path_or_id)(list(prompts), padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        told = model.get_text_features(input_ids=words["input_ids"], attention_mask=words["attention_mask"])
        told = getattr(told, "pooler_output", told)  # a tensor before transformers 5
    return TextTower(list(prompts), _unit(told.numpy()), float(model.logit_scale.detach().exp()))


def text_shares(bags: Mapping[str, Bag], slides: Sequence[str], tower: TextTower, *, seed: int) -> pd.DataFrame:
    """Shares of tiles for every slide and prompt (COLUMNS), with as many random directions as the floor.

    The tower's scale alone makes a softmax sharp: only what lies below the random directions is the prompt's doing.
    Raises ValueError where features are not as wide as the joint space.
    """
    arbitrary = _unit(np.random.default_rng(seed).standard_normal(tower.unit.shape))
    rows, none = [], [np.nan] * len(AUROCS)
    for slide_id in slides:
        x = bags[slide_id].x
        if x.shape[1] != tower.unit.shape[1]:
            raise ValueError(
                f"{slide_id}: features of width {x.shape[1]}; the text encoder's joint space has "
                f"{tower.unit.shape[1]}; extract features by its own image tower, projection included"
            )
        for names, unit in ((tower.prompts, tower.unit), ([ARBITRARY] * len(arbitrary), arbitrary)):
            relevance = softmax(tower.scale * unit @ _unit(x).T, axis=1)
            rows += [(name, -1, *none, *_shares(slide_id, own)) for name, own in zip(names, relevance, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def attention_shares(
    split: Split,
    table: pd.DataFrame,
    bags: Mapping[str, Bag],
    *,
    fewest_tiles: int,
    seed: int,
    settings: Settings,
    checkpoint: Path,
    save_minutes: float,
    device: str,
) -> pd.DataFrame:
    """Shares of tiles (COLUMNS) that gated attention falls on, on the fold's test slides, trained and untrained.

    Trained on the training side, its epoch chosen on the validation side; test slides of fewer than `fewest_tiles`
    tiles are left out. Of the others the same model's AUROC on all tiles (`auroc`), on those that hold half of its
    attention (`auroc_top`), on as many at random (`auroc_random`), on all but the top ones (`auroc_rest`): relevance
    that lies in few tiles is lost by the last two.
    """
    long = [slide_id for slide_id in split.test if n_tiles(bags, slide_id) >= fewest_tiles]
    split = split._replace(test=long)
    net, (train, validation, test) = untrained("gated_abmil", split, table, bags, k=0, seed=seed, options={})
    before = _attention_rows(net, test, UNTRAINED, split.fold, seed)
    fit_bags(
        net, train, validation, settings, seed=seed, checkpoint=checkpoint, save_minutes=save_minutes, device=device
    )
    return pd.DataFrame(_attention_rows(net, test, ATTENTION, split.fold, seed) + before, columns=COLUMNS)


def attention_over_folds(
    splits: Iterable[Split], table: pd.DataFrame, bags: Mapping[str, Bag], *, work: Path, **how: object
) -> list[pd.DataFrame]:
    """`attention_shares` of each fold; a fold whose table lies in `work` is read from there, so that a run resumes."""
    parts = []
    for split in splits:
        name = work / f"attention_{split.fold}"
        told = partial(attention_shares, split, table, bags, checkpoint=name.with_suffix(".pt"), **how)
        parts.append(kept(name.with_suffix(".csv"), told))
    return parts


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All rows of some tables of shares; of none, a table without rows."""
    full = [part for part in parts if len(part)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=COLUMNS)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Set out for reading, a row a source: medians over slides in per cent, mean AUROCs over folds."""
    by_slide = table.groupby(["source", "slide_id"], sort=False)[SHARES].mean().groupby("source", sort=False).median()
    aurocs = (
        table.dropna(subset="auroc").groupby(["source", "fold"], sort=False)[AUROCS].first().groupby("source").mean()
    )
    shown: dict[str, object] = {"relevance by": by_slide.index}
    for column, mass in zip(SHARES, MASSES, strict=True):
        shown[f"tiles that hold {mass:.0%} (%)"] = [f"{100 * share:.1f}" for share in by_slide[column]]
    for column, title in zip(
        AUROCS, ("AUROC, all tiles", "top half of attention", "as many at random", "all others"), strict=True
    ):
        found = aurocs[column].reindex(by_slide.index)
        shown[title] = ["" if np.isnan(auroc) else f"{auroc:.3f}" for auroc in found]
    return set_out(shown)


def quantities(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Name each source's shares, a value a slide."""
    by_slide = table.groupby(["source", "slide_id"], sort=False)[SHARES].mean()
    return {
        f"tiles that hold {mass:.0%}, {source}": by_slide.loc[source, column]
        for source in table["source"].unique()
        for mass, column in zip(MASSES, SHARES, strict=True)
    }


@torch.no_grad()
def attention(net: nn.Module, bags: Bags, i: int) -> Float[np.ndarray, " n"]:
    """What a gated ABMIL weighs each tile of the i-th bag with; it sums to 1."""
    net.eval()
    batch, _ = bags.batch(np.array([i]))
    device = next(net.parameters()).device
    return net.attention(*batch.to(device).tiles)[0].double().softmax(-1).cpu().numpy()


def _attention_rows(net: nn.Module, test: Bags, source: str, fold: int, seed: int) -> list[tuple]:
    rng, chosen = np.random.default_rng(seed), {"top": {}, "random": {}, "rest": {}}
    found = {slide_id: attention(net, test, i) for i, slide_id in enumerate(test.slide_ids)}
    for slide_id, own in found.items():
        order, many = np.argsort(-own, kind="stable"), math.ceil(share_holding(own, 0.5) * len(own) - 1e-9)
        parts = (order[:many], rng.permutation(len(own))[:many], order[many:])
        for name, tiles in zip(chosen, parts, strict=True):
            chosen[name][slide_id] = np.sort(tiles)
    scores = _auroc(net, test), *(_auroc(net, test, tiles) for tiles in chosen.values())
    return [(source, fold, *scores, *_shares(slide_id, own)) for slide_id, own in found.items()]


def _auroc(net: nn.Module, test: Bags, tiles: Mapping[str, Int[np.ndarray, " m"]] | None = None) -> float:
    """AUROC on the test bags, or on some tiles of each."""
    some = Bags(BagView(test.bags, test.slide_ids, tiles=tiles), test.slide_ids, test.y, test.moments)
    return bag_auc(bag_logits(net, some, batch=1), test.y)


def _shares(slide_id: str, relevance: Float[np.ndarray, " n"]) -> tuple:
    return slide_id, len(relevance), *(share_holding(relevance, mass) for mass in MASSES)


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
