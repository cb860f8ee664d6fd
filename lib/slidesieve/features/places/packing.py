"""Packing: many slides' bags into the parts of a packed folder, by several processes, killed and resumed at any moment.

A slide is kept if its row was made of what it is made of now. What is stale is withdrawn before anything is packed, so
that it counts no longer whatever comes; at most the part that is being written is lost with a process.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import numpy as np
import pandas as pd

from slidesieve import __version__
from slidesieve.cohort.ledger import Ledger
from slidesieve.cohort.slide_files import set_aside, slide_stamp
from slidesieve.cohort.slide_loop import UNCHECKED, Counts, Result, for_each_batch, room_in, tried
from slidesieve.features.bag import Bag
from slidesieve.features.places.packed_folder import PART_SCHEMA, Part, Row, look_through, rows_of, run_of, write_index
from slidesieve.features.store import halved, write_packed
from slidesieve.provenance.hdf5 import TRIDENT_ATTRS
from slidesieve.provenance.locks import taken

PART_SLIDES, PART_BYTES = 1000, 512 << 20  # of what a part is made of: half of it is written where that is float32
PACK_CODE = (
    *("slidesieve.features.bag", "slidesieve.features.store", "slidesieve.features.readers"),
    *("slidesieve.features.file_bags", "slidesieve.features.formats", "slidesieve.provenance.hdf5"),
)
KEPT_ATTRS = (*TRIDENT_ATTRS, "encoder", "encoder_pooling", "mpp", "tile_size_um")  # where a part's slides share them
ALIKE = ("has_coords", "patch_size_level0")  # the same for all slides of a part
LEFT = re.compile(r"\.part_\d{6,}_[0-9a-f]{8}\.h5\.partial")  # what a kill left of a part
NO_BAG = Bag("", np.zeros((0, 1), np.float16), np.zeros((0, 2), np.int64), {})  # a withdrawn slide's


class Sources(Protocol):
    """What is packed; it crosses processes. A slide that cannot be had raises OSError, a faulty one ValueError."""

    def read(self, slide_id: str) -> Bag: ...

    def identity(self, slide_id: str) -> str:
        """What tells whether the slide's bag is still the one that was packed."""
        ...

    def n_bytes(self, slide_id: str) -> int:
        """About how much is read for it."""
        ...


def pack(
    sources: Sources,
    slide_ids: Iterable[str],
    folder: Path,
    *,
    recipe: str,
    ledger: Ledger,
    workers: int,
    max_failed_share: float,
    part_slides: int = PART_SLIDES,
    part_bytes: int = PART_BYTES,
) -> pd.DataFrame:
    """Bring a packed folder up to date with its sources and return the ledger's rows; see `for_each_slide`.

    `recipe` is what decides a slide's bag beside its source. A slide whose source is gone keeps the row that it has
    under the same recipe. Raises ValueError if another process is at work in the folder.
    """
    ids = list(slide_ids)
    with taken(folder), room_in(folder):
        parts = _whole_parts(folder)
        rows = rows_of(parts)
        kept, todo, stale = _sorted_out(ids, rows, sources, recipe)
        width = next((parts[rows[slide_id].part].width for slide_id in kept), None) or _first_width(todo, sources)
        run = max(map(run_of, parts), default=0) + 1
        if stale:
            _write_part(folder, run, [NO_BAG._replace(slide_id=slide_id) for slide_id in stale], {}, recipe)
        batches = batches_of(todo, sources, workers=workers, most_slides=part_slides, most_bytes=part_bytes)
        how = {"sources": sources, "folder": folder, "run": run + 1, "recipe": recipe, "width": width}
        limits = {"workers": workers, "max_failed_share": max_failed_share}
        try:
            work = partial(_pack_batch, **how)
            return for_each_batch(work, ids, batches=batches, kept=kept, ledger=ledger, **limits)
        finally:
            write_index(folder, look_through(folder)[0])


def batches_of(
    slide_ids: Iterable[str], sources: Sources, *, workers: int, most_slides: int, most_bytes: int
) -> list[list[str]]:
    """Cut slides into the stretches that a part each is made of, no fewer than there are workers if they are enough."""
    sizes = {slide_id: _bytes_of(slide_id, sources) for slide_id in slide_ids}
    most_bytes = min(most_bytes, -(-sum(sizes.values()) // max(workers, 1)))
    batches, held = [], 0
    for slide_id, size in sizes.items():
        if not batches or len(batches[-1]) == most_slides or held + size > most_bytes:
            batches.append([])
            held = 0
        batches[-1].append(slide_id)
        held += size
    return batches


def recipe_of(code: dict[str, str], *, most_tiles: int) -> str:
    """Hash what decides a slide's bag beside its file: the code that reads it, and how many tiles are taken."""
    return slide_stamp(code, PACK_CODE, most_tiles=most_tiles)


def _whole_parts(folder: Path) -> dict[str, Part]:
    """The parts that can be read; others are set aside, and what a kill left of one is taken away."""
    for path in folder.iterdir():
        if LEFT.fullmatch(path.name):
            path.unlink()
    parts, faults = look_through(folder)
    for name, fault in faults.items():
        set_aside(folder / name)
        print(f"{name} cannot be read and is set aside; its slides are packed again: {fault}", flush=True)
    return parts


def _sorted_out(
    slide_ids: list[str], rows: Mapping[str, Row], sources: Sources, recipe: str
) -> tuple[dict[str, Counts], list[str], list[str]]:
    """Slides that are kept; slides to be packed; those of them whose row is of another source or recipe."""
    kept, todo, stale = {}, [], []
    for slide_id in slide_ids:
        row = rows.get(slide_id)
        packed = row is not None and row.n > 0
        try:
            identity, note = sources.identity(slide_id), ""
        except OSError:
            identity, note = row.source if packed else "", UNCHECKED
        except ValueError:  # it will fail alone, where it is packed
            identity, note = "", ""
        if packed and (row.source, row.recipe) == (identity, recipe):
            kept[slide_id] = Counts(row.n, 0, kept=True, note=note)
            continue
        todo.append(slide_id)
        if packed and not note:
            stale.append(slide_id)
    return kept, todo, stale


def _first_width(slide_ids: list[str], sources: Sources) -> int | None:
    for slide_id in slide_ids:
        with suppress(Exception):  # it will fail alone, where it is packed
            return sources.read(slide_id).x.shape[1]
    return None


def _bytes_of(slide_id: str, sources: Sources) -> int:
    try:
        return sources.n_bytes(slide_id)
    except (OSError, ValueError):
        return 0


def _pack_batch(
    slide_ids: list[str], *, sources: Sources, folder: Path, run: int, recipe: str, width: int | None
) -> list[Result]:
    """Read each slide, then write those that could be: one part of those that are alike."""
    bags, identities = {}, {}

    def read(slide_id: str) -> Counts:
        identities[slide_id] = sources.identity(slide_id)
        bag = sources.read(slide_id)
        if bag.x.shape[1] != width:
            raise ValueError(
                f"{slide_id}: features of width {bag.x.shape[1]}, others in {folder.name} are of {width}; use one "
                "encoder for all slides"
            )
        bags[slide_id] = halved(bag)
        return Counts(len(bag.x), 0)

    results = [tried(read, slide_id) for slide_id in slide_ids]
    alike = {}
    for bag in bags.values():
        alike.setdefault(tuple(repr(bag.attrs.get(name)) for name in ALIKE), []).append(bag)
    for group in alike.values():
        _write_part(folder, run, group, identities, recipe)
    return results


def _write_part(folder: Path, run: int, bags: list[Bag], identities: Mapping[str, str], recipe: str) -> None:
    first, *others = (bag.attrs for bag in bags)
    plain = {name: first[name] for name in KEPT_ATTRS if isinstance(first.get(name), str | int | float)}
    common = {name: value for name, value in plain.items() if all(other.get(name) == value for other in others)}
    attrs = common | {"schema": PART_SCHEMA, "recipe_hash": recipe, "created_by": f"slidesieve {__version__}"}
    name = f"part_{run:06}_{uuid4().hex[:8]}.h5"
    write_packed(folder / name, bags, attrs=attrs, sources=[identities.get(bag.slide_id, "") for bag in bags])
