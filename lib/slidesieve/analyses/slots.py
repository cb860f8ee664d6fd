"""How tiles use TC-SSA's slots: how many carry the load, how much the fullest takes, and which slot a tile is in."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.manifold import TSNE

from slidesieve.compressors.tcssa import TCSSA, Routing, load, mean_affinity
from slidesieve.features.bag import Bag, collate
from slidesieve.models.vlm import VLM
from slidesieve.provenance.files import read_json

SWEEPS = {"balance": "balance loss λ", "top": "slots a tile", "k": "slots"}  # option -> what it is, for figures


def routing_of(model: VLM, bag: Bag) -> Routing:
    """Where a slide's tiles go in evaluation, one slide (b = 1). Raises ValueError for another compressor."""
    if not isinstance(model.compressor, TCSSA):
        raise ValueError(f"slots: the model's compressor is {model.config['compressor']!r}; expected tcssa")
    batch = collate([bag]).to(model.feature_mean.device)
    with torch.no_grad():
        return model.compressor.route(model.encode(batch), batch.mask)


def usage(model: VLM, bags: Mapping[str, Bag]) -> pd.DataFrame:
    """One row a slide and slot: `load` (share of routings, sums to 1), `affinity` (mean), `first` (share of tiles)."""
    rows = []
    for slide_id in sorted(bags):
        routing = routing_of(model, bags[slide_id])
        mask = torch.ones(routing.affinity.shape[:2], dtype=torch.bool, device=routing.affinity.device)
        share = (load(routing, mask)[0] / model.compressor.top).cpu().numpy()
        first = np.bincount(first_slot(routing), minlength=model.compressor.k) / mask.shape[1]
        slot = range(model.compressor.k)
        rows += zip([slide_id] * len(slot), slot, share, mean_affinity(routing, mask)[0].tolist(), first, strict=True)
    return pd.DataFrame(rows, columns=["slide_id", "slot", "load", "affinity", "first"])


def first_slot(routing: Routing) -> Int[np.ndarray, " n"]:
    """The slot that each tile of a slide has most affinity to."""
    return routing.affinity[0].argmax(-1).cpu().numpy()


def summary(table: pd.DataFrame) -> pd.Series:
    """Medians over slides: effective number of slots (exp of the entropy of load and of affinity), largest shares."""
    by_slide = {name: table.pivot_table(index="slide_id", columns="slot", values=name) for name in ("load", "affinity")}
    first = table.pivot_table(index="slide_id", columns="slot", values="first")
    return pd.Series(
        {
            "effective_slots": np.median(effective_number(by_slide["load"].to_numpy())),
            "effective_affinity": np.median(effective_number(by_slide["affinity"].to_numpy())),
            "largest_load": by_slide["load"].max(axis=1).median(),
            "largest_first": first.max(axis=1).median(),
        }
    )


def effective_number(share: Float[np.ndarray, "s k"]) -> Float[np.ndarray, " s"]:
    """exp H of each row's shares: k if all are equal, 1 if one has everything."""
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.exp(-(share * logarithm).sum(axis=1))


def recipe_row(folder: Path) -> dict[str, object]:
    """The options of stage 50's model that a sweep may vary, with seed; defaults filled in."""
    config = read_json(folder / "model" / "model.json")
    options = {"balance": 0.1, "top": 2} | config["options"]
    return {"k": config["k"], "seed": config["seed"]} | {name: options[name] for name in ("balance", "top")}


def sweeps(table: pd.DataFrame, reference: Mapping[str, object]) -> dict[str, pd.DataFrame]:
    """For each option, the runs that differ from the reference's values in it alone; options that never differ not."""
    found = {}
    for name in SWEEPS:
        others = [other for other in SWEEPS if other != name]
        part = table[(table[others] == pd.Series({o: reference[o] for o in others})).all(axis=1)]
        if part[name].nunique() > 1:
            found[name] = part.sort_values(name)
    return found


def embed(
    x: Float[np.ndarray, "n d"], *, most: int, seed: int
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "m 2"]]:
    """t-SNE of at most `most` tiles, drawn at random: which, and where they come to lie."""
    tiles = np.sort(np.random.default_rng(seed).permutation(len(x))[:most])
    if len(tiles) < 4:
        return tiles, np.stack([np.arange(len(tiles)), np.zeros(len(tiles))], axis=1)
    perplexity = min(30, (len(tiles) - 1) / 3)
    return tiles, TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(x[tiles])


def by_size(slot: Sequence[int], k: int) -> Int[np.ndarray, " n"]:
    """Slots renumbered by how many tiles they have, the fullest 0: colours are then the same ones in every figure."""
    count = np.bincount(slot, minlength=k)
    rank = np.empty(k, dtype=int)
    rank[np.argsort(-count, kind="stable")] = np.arange(k)
    return rank[np.asarray(slot)]
