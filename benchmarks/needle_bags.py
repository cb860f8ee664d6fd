"""Bags of the needle benchmark: one slide's tokens, whose kind is asked, among very many tokens of other organs.

The needle is at most 60 region tokens of one lung slide, squamous (label 1) or adenocarcinoma (label 0), as one run at
a random place among the tokens of kidney, thyroid, liver and prostate slides (whole slides joined in random order, the
last one cut). That makes the needle odd whatever its kind. In hay of the `same` organ it lies among adenocarcinomas of
other patients instead, and nothing but what is asked for is odd: is there squamous carcinoma?

Patients, not slides, are divided 60 / 15 / 25 % into train, validation and test, for needles and hay alike. The tokens
of all bags are rows of one array, so that a bag is n row numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int

from slidesieve.features.bag import Batch

HAY = ("KIDNEY", "THCA", "LIHC", "PRAD")
KINDS, HAY_KIND = {"LUAD": 0, "LUSC": 1}, -1
OTHER, SAME = "other", "same"  # organ of the hay
LYING = {OTHER: HAY_KIND, SAME: KINDS["LUAD"]}
MOST_NEEDLE = 60
SHARES = {"train": 0.60, "validation": 0.15, "test": 0.25}  # of patients
PATIENT = 12  # characters of a TCGA slide id


class Slides(NamedTuple):
    """Slides as runs of rows of one array: slide i is tokens[start[i]:stop[i]]; kind is -1 for hay."""

    tokens: Float[np.ndarray, "t d"]
    slide_id: tuple[str, ...]
    start: Int[np.ndarray, " s"]
    stop: Int[np.ndarray, " s"]
    kind: Int[np.ndarray, " s"]


@dataclass(frozen=True)
class NeedleBags:
    """Bags of one split; `slide` is the needle's row in Slides, `is_needle` what no model is told."""

    tokens: Float[torch.Tensor, "t d"]
    rows: Int[np.ndarray, "bags n"]
    is_needle: Bool[np.ndarray, "bags n"]
    y: Int[np.ndarray, " bags"]
    slide: Int[np.ndarray, " bags"]

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, bags: Int[np.ndarray, " b"]) -> tuple[Batch, Int[torch.Tensor, " b"]]:
        """Return some bags and their labels; every bag has n tokens, so no padding."""
        x = self.tokens[torch.from_numpy(self.rows[bags])]
        place = torch.arange(x.shape[1]).expand(x.shape[:2])
        coords = torch.stack([place, torch.zeros_like(place)], dim=-1)
        return Batch(x, coords, torch.ones(x.shape[:2], dtype=torch.bool)), torch.from_numpy(self.y[bags])


def read_slides(folder: Path) -> Slides:
    """Read the packed stores of `folder` (hipt_tcga): the lung slides with a subtype, and all slides of the hay."""
    table = pd.read_csv(folder / "labels" / "tcga_lung_subtype.csv")
    kinds = {
        Path(slide).stem: KINDS[code] for slide, code in zip(table["slide_id"], table["oncotree_code"], strict=True)
    }
    x, slide_id, length, kind = [], [], [], []
    for cohort in ("LUNG", *HAY):
        with h5py.File(folder / f"{cohort}.h5") as file:  # whole: slide by slide is many times slower
            names, sizes = file["slide_id"].asstr()[:], np.diff(file["offsets"][:])
            chosen = np.array([cohort != "LUNG" or name in kinds for name in names])
            x.append(file["features"][:][np.repeat(chosen, sizes)].astype(np.float32))
        slide_id += names[chosen].tolist()
        length += sizes[chosen].tolist()
        kind += [kinds[name] if cohort == "LUNG" else HAY_KIND for name in names[chosen]]
    stop = np.cumsum(length)
    return Slides(np.concatenate(x), tuple(slide_id), stop - length, stop, np.array(kind))


def split_patients(slides: Slides, seed: int) -> dict[str, Int[np.ndarray, " s"]]:
    """Divide slides by patient, needles and hay each in the shares of SHARES; return rows of `slides` by split."""
    rng = np.random.default_rng([seed, 0])
    patient = np.array([slide_id[:PATIENT] for slide_id in slides.slide_id])
    needle = set(patient[slides.kind >= 0])
    names, ends = list(SHARES), np.cumsum(list(SHARES.values()))
    split = {}
    for group in (sorted(needle), sorted(set(patient) - needle)):
        order = rng.permutation(len(group))
        split |= {group[i]: names[min(np.searchsorted(ends, (r + 0.5) / len(group)), 2)] for r, i in enumerate(order)}
    of_slide = np.array([split[p] for p in patient])
    return {name: np.flatnonzero(of_slide == name) for name in names}


def needle_bags(
    slides: Slides, counts: Mapping[str, int], *, n: int, seed: int, hay: str = OTHER
) -> dict[str, NeedleBags]:
    """Make counts[split] bags of n tokens for each split, half of each kind; features standardised on train tokens."""
    split = split_patients(slides, seed)
    train = slides.tokens[np.concatenate([_rows(slides, s) for s in split["train"]])]
    tokens = torch.from_numpy((slides.tokens - train.mean(0)) / (train.std(0) + 1e-6))
    return {
        name: _split_bags(slides, split[name], tokens, count, n, np.random.default_rng([seed, n, i + 1]), LYING[hay])
        for i, (name, count) in enumerate(counts.items())
    }


def _split_bags(slides, members, tokens, count: int, n: int, rng: np.random.Generator, lying: int) -> NeedleBags:
    hay = members[slides.kind[members] == lying]
    y = rng.permutation(np.arange(count) % 2)
    needle = np.zeros(count, int)
    for kind in KINDS.values():  # a slide comes again only after all others of its kind
        own, places = members[slides.kind[members] == kind], np.flatnonzero(y == kind)
        needle[places] = np.concatenate([rng.permutation(own) for _ in range(-(-len(places) // len(own)))])[
            : len(places)
        ]
    rows, is_needle = zip(*(_one_bag(slides, slide, hay, n, rng) for slide in needle), strict=True)
    return NeedleBags(tokens, np.stack(rows), np.stack(is_needle), y, needle)


def _one_bag(slides, needle: int, hay, n: int, rng: np.random.Generator):
    found = _rows(slides, needle)
    if len(found) > MOST_NEEDLE:
        found = np.sort(rng.choice(found, MOST_NEEDLE, replace=False))
    others, room = [], n - len(found)
    patient = slides.slide_id[needle][:PATIENT]
    for slide in rng.permutation([s for s in hay if slides.slide_id[s][:PATIENT] != patient]):
        others.append(_rows(slides, slide)[:room])
        room -= len(others[-1])
        if not room:
            break
    if room:
        raise ValueError(f"needle bags: {len(hay)} hay slides lack {room} of {n} tokens; ask for shorter bags")
    place = rng.integers(len(others) + 1)  # between two slides of the hay
    before = sum(len(part) for part in others[:place])
    mark = np.zeros(n, bool)
    mark[before : before + len(found)] = True
    return np.concatenate([*others[:place], found, *others[place:]]), mark


def _rows(slides: Slides, slide: int) -> Int[np.ndarray, " m"]:
    return np.arange(slides.start[slide], slides.stop[slide])


@torch.no_grad()
def found_share(kept: Callable[..., Int[np.ndarray, "b k"]], bags: NeedleBags, *, batch: int) -> tuple[float, float]:
    """Return recall (share of the needle's tokens kept) and precision (share of kept ones that are the needle's).

    `kept` maps a batch's (x, coords, mask) to the places of the tokens kept, -1 for one that is none. Both are means
    over bags.
    """
    found = []
    for part in np.array_split(np.arange(len(bags)), -(-len(bags) // batch)):
        mark = bags.is_needle[part]
        places = kept(*bags.batch(part)[0].tiles)
        hits = np.take_along_axis(mark, places.clip(min=0), axis=1) & (places >= 0)
        found.append(np.stack([hits.sum(1) / mark.sum(1), hits.sum(1) / (places >= 0).sum(-1)]))
    recall, precision = np.concatenate(found, axis=1).mean(1)
    return float(recall), float(precision)
