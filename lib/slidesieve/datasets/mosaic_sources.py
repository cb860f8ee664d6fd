"""Packed stores of real slides as the stuff of mosaics: whose each slide is, of which kind, and its tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from slidesieve.cohort.ids import MIN_COVERAGE, matched, tcga_case
from slidesieve.cohort.manifest import COLUMNS
from slidesieve.cohort.tables import is_missing
from slidesieve.datasets.labels import read_labels
from slidesieve.datasets.mosaics import SIDES, SMALL, SUBTYPE, Mosaic, Run
from slidesieve.datasets.questions import FOUR
from slidesieve.features.bag import Bag, make_bag
from slidesieve.features.places.packed_folder import Store

MOST_SUBTYPES = len(FOUR)


def read_sources(
    stores: Sequence[Store],
    labels: Sequence[Path],
    *,
    kind: str,
    subtype: str,
    min_coverage: float = MIN_COVERAGE,
) -> pd.DataFrame:
    """Return slide_id, case_id, site, kind, subtype, n, store of all slides that have a kind.

    `kind` and `subtype` name columns of the label tables; kind "" is the name of the store, subtype "" is none. A
    patient is the tables' case_id, else the TCGA barcode's, else the slide; a site likewise. Only kinds with 2 to 4
    subtypes have any. Raises ValueError for a slide in two stores, a column that no table has, or a table of which
    fewer than `min_coverage` of the slides (or of those stored, if they are fewer) have a partner.
    """
    rows = [
        (slide, store.path.stem, store.n_tiles(slide), number)
        for number, store in enumerate(stores)
        for slide in store.slide_ids
    ]
    table = pd.DataFrame(rows, columns=["slide_id", "name", "n", "store"])
    if (twice := table["slide_id"].duplicated()).any():
        slide = table.loc[twice, "slide_id"].iloc[0]
        raise ValueError(f"stores: {twice.sum()} slides are in two of them ({slide}, ...); give each slide once")
    wanted = [name for name in (kind, subtype) if name]
    known = _labelled(labels, wanted, table["slide_id"], min_coverage)
    table = table.join(known, on="slide_id").fillna(dict.fromkeys(known.columns, ""))
    barcode = table["slide_id"].map(tcga_case)
    case, site = (table.get(name, pd.Series("", index=table.index)) for name in ("case_id", "site"))
    table = table.assign(
        case_id=case.where(case != "", barcode.where(barcode != "", table["slide_id"])),
        site=site.where(site != "", barcode.str[5:7]),
        kind=table[kind] if kind else table["name"],
        subtype=table[subtype] if subtype else "",
    )
    table = table[table["kind"] != ""]
    several = table[table["subtype"] != ""].groupby("kind")["subtype"].nunique().between(2, MOST_SUBTYPES)
    told = table["kind"].isin(several.index[several])
    table = table.assign(subtype=table["subtype"].where(told, ""))
    return table[["slide_id", "case_id", "site", "kind", "subtype", "n", "store"]].reset_index(drop=True)


def owners(mosaics: Sequence[Mosaic], case: Mapping[str, str], *, shuffle: int = -1) -> pd.DataFrame:
    """One row a run: bag, its tokens `start` to `stop` as they were joined, role, kind, subtype, and whose they are.

    `source_start` is the row of the first in `source_slide`; `n` and `shuffled` say where they stand (`placed`). Orders
    are drawn from `shuffle`; -1: bags stay as they were joined.
    """
    rows = []
    for number, mosaic in enumerate(mosaics):
        stop, n = 0, sum(piece.size for piece in mosaic.pieces)
        shuffled = -1 if shuffle < 0 else int(np.random.default_rng([shuffle, number]).integers(2**31))
        for of, (slide, first, last) in ((piece, run) for piece in mosaic.pieces for run in piece.runs):
            start, stop = stop, stop + last - first
            rows.append((mosaic.name, start, stop, *of[:3], slide, first, case[slide], n, shuffled))
    columns = ["slide_id", "start", "stop", "role", "kind", "subtype", "source_slide", "source_start", "source_case"]
    columns += ["n", "shuffled"]
    return pd.DataFrame(rows, columns=columns)


def placed(n: int, shuffled: int) -> Int[np.ndarray, " n"]:
    """Where in a bag of n tokens each stands, in the order in which they were joined."""
    return np.arange(n) if shuffled < 0 else np.random.default_rng(shuffled).permutation(n)


def by_token(owned: pd.DataFrame) -> pd.DataFrame:
    """One row a token of what `owners` gives a row a run: `index` in the bag in place of start and stop.

    Tables without `shuffled` are of bags that stayed as they were joined.
    """
    rows = owned.loc[owned.index.repeat(owned["stop"] - owned["start"])]
    index = (rows["start"] + rows.groupby(level=0).cumcount()).to_numpy(copy=True)
    if "shuffled" in owned:
        orders = owned.drop_duplicates("slide_id").set_index("slide_id")[["n", "shuffled"]]
        for slide, own in rows.reset_index(drop=True).groupby("slide_id").indices.items():
            index[own] = placed(*orders.loc[slide].tolist())[index[own]]
    rows = rows.assign(index=index)
    return rows[["slide_id", "index", "role", "kind", "subtype"]].reset_index(drop=True)


def truth_table(owned: pd.DataFrame) -> pd.DataFrame:
    """The tokens of small pieces as planted evidence: slide_id, x_px0, y_px0, kind (the role), name (the tissue).

    `owned` as `owners` gives it. A bag without places stands on a line.
    """
    small = by_token(owned[owned["role"].isin(SMALL)]).assign(y_px0=0)
    small = small.rename(columns={"index": "x_px0", "role": "kind", "kind": "name"})
    return small[["slide_id", "x_px0", "y_px0", "kind", "name"]]


def bags_of(
    mosaics: Sequence[Mosaic], stores: Sequence[Store], store_of: Mapping[str, int], owned: pd.DataFrame
) -> list[Bag]:
    """Join each mosaic's runs of tokens and put them where `owned` (of `owners`) has them. Each slide is read once.

    Places on a slide are not known.
    """
    wanted: dict[str, list[tuple[int, int, Run]]] = {}
    for number, mosaic in enumerate(mosaics):
        start = 0
        for run in (run for piece in mosaic.pieces for run in piece.runs):
            wanted.setdefault(run.slide_id, []).append((number, start, run))
            start += run.stop - run.start
    x: list[Float[np.ndarray, "n d"] | None] = [None] * len(mosaics)
    for slide in sorted(wanted):
        tokens = stores[store_of[slide]].read(slide).x
        for number, start, run in wanted[slide]:
            if x[number] is None:
                x[number] = np.empty((sum(piece.size for piece in mosaics[number].pieces), tokens.shape[1]), np.float32)
            x[number][start : start + run.stop - run.start] = tokens[run.start : run.stop]
    orders = owned.drop_duplicates("slide_id").set_index("slide_id")[["n", "shuffled"]]
    bags = []
    for mosaic, own in zip(mosaics, x, strict=True):
        put = np.empty_like(own)
        put[placed(*orders.loc[mosaic.name].tolist())] = own
        bags.append(make_bag(mosaic.name, put, None, {}))
    return bags


def manifest_table(mosaics: Sequence[Mosaic], *, source: str) -> pd.DataFrame:
    """Return a manifest whose slides are the mosaics, in store.h5 beside it; each is its own patient."""
    table = pd.DataFrame("", index=range(len(mosaics)), columns=list(COLUMNS))
    names = [mosaic.name for mosaic in mosaics]
    sides = [mosaic.side for mosaic in mosaics]
    return table.assign(slide_id=names, case_id=names, feature_path="store.h5", split=sides, source=source)


def class_table(mosaics: Sequence[Mosaic]) -> pd.DataFrame:
    """Return a label table: a column a kind, with the subtype of the small piece of that kind, "" where it has none."""
    told = [(mosaic, piece) for mosaic in mosaics for piece in mosaic.of(SUBTYPE) if piece.subtype]
    rows = [{"case_id": m.name, "slide_id": m.name, piece.kind: piece.subtype} for m, piece in told]
    names = sorted({piece.kind for _, piece in told})
    return pd.DataFrame(rows, columns=["case_id", "slide_id", *names]).fillna("")


def split_table(mosaics: Sequence[Mosaic]) -> pd.DataFrame:
    """Return the mosaics' sides as published split files have them: columns train, val, test of slide ids."""
    sides = {side: pd.Series([m.name for m in mosaics if m.side == side], dtype=object) for side in SIDES}
    return pd.DataFrame(sides)


def _labelled(
    labels: Sequence[Path], wanted: Sequence[str], stored: Sequence[str], min_coverage: float
) -> pd.DataFrame:
    """Join label tables by slide; columns case_id, site and those that are wanted, as far as there are any."""
    parts = []
    for path in labels:
        table = read_labels(path)
        if "slide_id" not in table:
            raise ValueError(f"{path}: no column slide_id; got {', '.join(table)}; rename or add it")
        found = matched(table["slide_id"], stored, what=path.name, least=min_coverage, of_smaller=True)
        table = table[table["slide_id"].isin(found)]
        columns = [name for name in ("case_id", "site", *wanted) if name in table]
        words = table[list(dict.fromkeys(columns))].apply(lambda words: words.mask(is_missing(words), ""))
        parts.append(words.set_index(table["slide_id"].map(found)))
    joined = pd.concat(parts) if parts else pd.DataFrame(index=pd.Index([], name="slide_id"))
    if absent := [name for name in wanted if name not in joined]:
        raise ValueError(f"labels: no column {', '.join(absent)} in {len(parts)} tables; correct it, or leave it empty")
    if (twice := joined.index.duplicated()).any():
        raise ValueError(
            f"labels: {twice.sum()} slides have two rows ({joined.index[twice][0]}, ...); keep one a slide"
        )
    return joined.fillna("")
