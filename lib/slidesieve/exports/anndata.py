"""Kept tiles as one `kept_tiles.h5ad`: features in X, a row a tile, middles in obsm["spatial"], the run in uns.

The file's layout is AnnData's on-disk format 0.1.0, written with h5py: anndata itself does not yet take our pandas 3.
"""

import json
from pathlib import Path

import h5py
import numpy as np

from slidesieve.exports.kept import Kept, kept_tiles
from slidesieve.exports.runs import Run
from slidesieve.exports.whole_folder import whole_folder

KIND, FILE = "anndata", "kept_tiles.h5ad"
WORDS = h5py.string_dtype()


def publish(run: Run, out: Path, *, command: str, include_lm: bool = False) -> list[str]:
    """Write OUT/kept_tiles.h5ad; say what was written."""
    with whole_folder(out, KIND) as aside:
        slides = list(kept_tiles(run))
        write_h5ad(aside / FILE, slides, run, command)
    n = sum(len(kept.x) for kept in slides)
    return [f"{n:,} tiles of {len(slides):,} slides, {slides[0].x.shape[1]} features each"]


def write_h5ad(path: Path, slides: list[Kept], run: Run, command: str) -> None:
    """One row a kept tile, slide by slide, best first."""
    coords, ranks = np.concatenate([s.coords for s in slides]), np.concatenate([s.ranks for s in slides])
    owner = np.repeat([s.slide_id for s in slides], [len(s.x) for s in slides])
    rows = {
        "slide_id": owner,
        "case_id": np.repeat([s.case_id for s in slides], [len(s.x) for s in slides]),
        "rank": ranks,
        "score": np.concatenate([s.scores for s in slides]),
        "x_px0": coords[:, 0],
        "y_px0": coords[:, 1],
        "method": np.full(len(ranks), run.method),
        "k": np.full(len(ranks), run.k),
        "seed": np.full(len(ranks), run.seed),
    }
    x = np.concatenate([s.x for s in slides])
    with h5py.File(path, "w") as file:
        _encoded(file, "anndata", "0.1.0")
        _array(file, "X", x)
        names = [f"{slide}_{rank}" for slide, rank in zip(owner, ranks, strict=True)]
        _frame(file, "obs", names, rows)
        _frame(file, "var", [f"f{i}" for i in range(x.shape[1])], {})
        for name in ("layers", "obsm", "obsp", "varm", "varp", "uns"):
            _encoded(file.create_group(name), "dict", "0.1.0")
        _array(file["obsm"], "spatial", np.concatenate([s.coords + s.side_px0 / 2 for s in slides]))
        told = _encoded(file["uns"].create_group("slidesieve"), "dict", "0.1.0")
        for name, word in provenance(slides, run, command).items():
            _encoded(told.create_dataset(name, data=word, dtype=WORDS), "string", "0.2.0")


def provenance(slides: list[Kept], run: Run, command: str) -> dict[str, str]:
    """What the table is of, in words; `model` and `tiles` are JSON."""
    known = {
        name: value for name, value in slides[0].attrs.items() if name.startswith(("encoder", "mpp", "patch_size"))
    }
    return {
        "command": command,
        "receipt": run.digest,
        "model": json.dumps(run.model),
        "tiles": json.dumps(known, default=str),
        "units": "level-0 pixels: x_px0, y_px0 a tile's top-left corner, spatial its middle; rank 0 is the best",
    }


def _encoded(made, kind: str, version: str):
    made.attrs["encoding-type"], made.attrs["encoding-version"] = kind, version
    return made


def _array(group, name: str, values: np.ndarray) -> None:
    if values.dtype.kind == "U":
        _encoded(group.create_dataset(name, data=values.astype(object), dtype=WORDS), "string-array", "0.2.0")
    else:
        _encoded(group.create_dataset(name, data=values), "array", "0.2.0")


def _frame(file: h5py.File, name: str, index: list[str], columns: dict[str, np.ndarray]) -> None:
    frame = _encoded(file.create_group(name), "dataframe", "0.2.0")
    frame.attrs["_index"] = "_index"
    frame.attrs.create("column-order", np.array(list(columns), dtype=object), dtype=WORDS)
    _array(frame, "_index", np.array(index))
    for column, values in columns.items():
        _array(frame, column, values)
