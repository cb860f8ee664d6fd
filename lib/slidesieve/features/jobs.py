"""Stage 20 on one slide: read the tiles that stage 10 placed, encode and write them; and the fit of the encoder.

Tiles are read and prepared a batch at a time, ahead of the encoder, so memory does not grow with the slide. What cannot
be read is left out of the bag and counted.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from slidesieve.cohort.ledger import LOST, Ledger
from slidesieve.cohort.manifest import Manifest, cached_manifest, path_of, read_manifest, row_of
from slidesieve.cohort.slide_files import STALE, kept, no_stale, provenance, share_file, slide_stamp, spare_foreign
from slidesieve.cohort.slide_loop import UNCHECKED, Counts, SkipSlide, room_in
from slidesieve.features.bag import make_bag
from slidesieve.features.encoders import Encoder, load_encoder
from slidesieve.features.store import write_features
from slidesieve.provenance.hdf5 import read_attrs
from slidesieve.slides.jobs import TILE_CODE, check_lost, identify
from slidesieve.slides.pixels import iter_tiles
from slidesieve.slides.read_ahead import batches_ahead
from slidesieve.slides.slide import SlideFault, UnreadableSlide, open_slide
from slidesieve.slides.tiling import Tiling, read_tiling

FEATURE_CODE = (
    *TILE_CODE,
    "slidesieve.slides.read_ahead",
    "slidesieve.features.jobs",
    "slidesieve.features.encoders",
    "slidesieve.features.vision_models",
    "slidesieve.features.tile_batches",
    "slidesieve.features.store",
    "slidesieve.features.stain_texture",
)


class EncoderChoice(NamedTuple):
    """Which encoder, and how to load it in each process; `state` is what a fit left, or None."""

    name: str
    device: str
    batch_tiles: int
    pooling: str
    state: Path | None = None
    dtype: str = "float32"


class StaleTiles(SlideFault):
    """The slide file is not the one whose tiles were placed."""


def encode_one(
    slide_id: str,
    *,
    manifest_path: Path,
    tiles_dir: Path,
    out_dir: Path,
    choice: EncoderChoice,
    max_lost_share: float,
    code: dict[str, str],
    readers: int = 2,
    others: Sequence[Path] = (),
) -> Counts:
    """Encode the tiles of a slide, read ahead by `readers` threads: write out_dir/<slide_id>.h5.

    Or take that file from one of `others`, folders of the same stage.

    The counts tell how long the encoder had nothing to encode while its slide was opened, read, checked and written.
    Raises TilesLost if more than `max_lost_share` of them cannot be read, StaleTiles if the slide is not the one that
    they were placed on, other SlideFaults, and OSError for a slide that cannot be had.
    """
    tile_file, file = tiles_dir / f"{slide_id}.h5", out_dir / f"{slide_id}.h5"
    with no_stale(file):
        if not tile_file.exists():
            raise _no_tiles(tiles_dir, slide_id)
        encoder, state_hash = _cached_encoder(choice)
        start, tiling = perf_counter(), read_tiling(tile_file)
        made_by = {
            "encoder": choice.name,
            "encoder_state_sha256": state_hash,
            "encoder_pooling": choice.pooling,
            "encoder_dtype": choice.dtype,
            "tiles_recipe_hash": tiling.attrs["recipe_hash"],
        }
        stamp = slide_stamp(code, FEATURE_CODE, **made_by)
        manifest = cached_manifest(manifest_path)
        path = path_of(manifest, slide_id, "slide_path")
        done = kept(file, stamp, others)
        try:
            identity = _identity_of(path, tiling, row_of(manifest, slide_id)["sha256"])
        except OSError:
            if not done:
                raise
            done = done._replace(note=UNCHECKED)
        counts = done
        if not done:
            x, read, reader, encoding_s = _encode(
                path, tiling, encoder, batch_tiles=choice.batch_tiles, readers=readers
            )
            counts = Counts(int(read.sum()), int((~read).sum()), note=f"read by {reader}")
        check_lost(path.name, counts.n_dropped / (counts.n_tiles + counts.n_dropped), max_lost_share)
        if done:
            return done
        bag = make_bag(slide_id, x[read], tiling.coords[read], tiling.attrs)
        made_by |= {"n_tiles": counts.n_tiles, "n_dropped": counts.n_dropped, "note": counts.note}
        made_by |= {"slide_identity": identity}
        spare_foreign(file)
        write_features(file, bag, made_by | provenance(slide_id, stamp))
    return counts._replace(waited_s=perf_counter() - start - encoding_s)


def fit_encoder(
    choice: EncoderChoice,
    *,
    manifest_path: Path,
    tiles_dir: Path,
    out_dir: Path,
    n_slides: int,
    n_tiles: int,
    code: dict[str, str],
    others: Sequence[Path] = (),
) -> EncoderChoice:
    """Fit an encoder that needs it, on `n_tiles` evenly spaced tiles of the first `n_slides` train slides by slide_id.

    Without a train split (none given, or folds) all slides count; no label is used either way. The state's file is
    named after what it was fitted on: if it is there, or in one of `others`, nothing is fitted. Other states are set
    aside, as features of theirs are. Raises FileNotFoundError if it has to be fitted on slides that are not there,
    StaleTiles if on changed ones.
    """
    encoder = _load(choice)
    if not encoder.needs_fit:
        return choice
    manifest = read_manifest(manifest_path)
    files = [tiles_dir / f"{i}.h5" for i in _fit_ids(manifest)]
    files = [f for f in files if f.exists()][:n_slides]
    fitted_on = {f.stem: read_attrs(f)["recipe_hash"] for f in files}
    stamp = slide_stamp(code, FEATURE_CODE, fitted_on=fitted_on, n_tiles=n_tiles, encoder=choice.name)
    choice = choice._replace(state=out_dir / f"encoder_state_{stamp}.npz")
    aside = choice.state.with_name(choice.state.name + STALE)
    if not choice.state.exists() and aside.exists():
        aside.rename(choice.state)
    for found in (folder / choice.state.name for folder in others):
        if found.exists() and not choice.state.exists():
            share_file(found, choice.state)
    if not choice.state.exists():
        paths = [path_of(manifest, f.stem, "slide_path") for f in files]
        if absent := [f.stem for f, path in zip(files, paths, strict=True) if not path.exists()]:
            raise FileNotFoundError(
                f"{choice.name}: {len(absent)} of the {len(files)} slides that it is fitted on are not there: "
                f"{', '.join(absent[:20])}; bring them back, or set DATA_ROOT"
            )
        tilings = [read_tiling(f) for f in files]
        for file, path, tiling in zip(files, paths, tilings, strict=True):
            _identity_of(path, tiling, row_of(manifest, file.stem)["sha256"])
        shares = fair_shares([len(t.coords) for t in tilings], n_tiles)
        parts = [_some_tiles(*each) for each in zip(paths, tilings, shares, strict=True)]
        if not any(map(len, parts)):
            raise ValueError(f"{choice.name}: no tile to fit on in {tiles_dir}; its ledger says why")
        encoder.fit(np.concatenate([part for part in parts if len(part)]))
        with room_in(out_dir):
            encoder.save(choice.state)
    for older in set(out_dir.glob("encoder_state_*.npz")) - {choice.state}:
        older.rename(older.with_name(older.name + STALE))
    return choice


def fair_shares(sizes: list[int], total: int) -> list[int]:
    """Divide `total` evenly, each share at most its size; what small ones leave goes to the larger."""
    shares = [0] * len(sizes)
    for rank, i in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[i] = min(sizes[i], (total - sum(shares)) // (len(sizes) - rank))
    return shares


def _no_tiles(tiles_dir: Path, slide_id: str) -> Exception:
    """Skip a slide that stage 10 found no tiles on; one that it lost is lost here too."""
    ledger = tiles_dir / "ledger.csv"
    if ledger.exists() and slide_id in _lost(ledger, ledger.stat().st_mtime_ns):
        return FileNotFoundError(f"{slide_id}: no tiles in {tiles_dir.name}, which lost the slide; its ledger says how")
    return SkipSlide(f"no tiles in {tiles_dir.name}; its ledger says why")


@cache
def _lost(ledger: Path, mtime_ns: int) -> set[str]:
    rows = Ledger(ledger).rows()
    return set(rows.loc[rows["error"] == LOST, "slide_id"])


def _identity_of(path: Path, tiling: Tiling, sha256: str) -> str:
    """Return which slide it is, in the words of its tiles. Raises StaleTiles if they are another's."""
    placed_on = tiling.attrs.get("slide_identity")
    if placed_on not in identify(path, sha256):
        raise StaleTiles(f"{path.name}: changed since its tiles were placed; run 10_tile_slides again")
    return placed_on


def _encode(
    path: Path, tiling: Tiling, encoder: Encoder, *, batch_tiles: int, readers: int
) -> tuple[Float[np.ndarray, "n d"], Bool[np.ndarray, " n"], str, float]:
    """Return the features, which tiles could be read, what read them, and the seconds of the encoder alone."""
    x, read = np.zeros((len(tiling.coords), encoder.d), np.float32), np.zeros(len(tiling.coords), bool)
    seconds, asked = 0.0, {"batch_tiles": batch_tiles, "readers": readers, "make": encoder.prepare}
    with batches_ahead(path, tiling, **asked) as (reader, batches):
        for batch in batches:
            start = perf_counter()
            x[batch.index], read[batch.index] = encoder.encode_prepared(batch.made), True
            seconds += perf_counter() - start
    if not read.any():
        raise UnreadableSlide(f"{path.name}: not one of its {len(read)} tiles can be read; replace the file")
    return x, read, reader, seconds


def _fit_ids(manifest: Manifest) -> list[str]:
    table = manifest.table
    train = table[table["split"] == "train"]
    return sorted((train if len(train) else table)["slide_id"])


def _some_tiles(path: Path, tiling: Tiling, n: int) -> UInt8[np.ndarray, "n t t 3"]:
    """Read up to n evenly spaced tiles; a slide that fails gives none, and its own row will say why."""
    side = int(tiling.attrs["patch_size"])
    some = tiling.coords[np.unique(np.linspace(0, len(tiling.coords) - 1, n).astype(int))]
    try:
        with open_slide(path, tiling.attrs["mpp_level0"]) as slide:
            parts = [tiles.pixels for tiles in iter_tiles(slide, some, tile_px=side, view=tiling.view)]
    except (SlideFault, OSError):
        parts = []
    return np.concatenate(parts) if parts else np.zeros((0, side, side, 3), np.uint8)


def _load(choice: EncoderChoice) -> Encoder:
    how = {"device": choice.device, "batch_tiles": choice.batch_tiles, "pooling": choice.pooling, "dtype": choice.dtype}
    return load_encoder(choice.name, **how)


@cache
def _cached_encoder(choice: EncoderChoice) -> tuple[Encoder, str]:
    """The encoder, and the hash of its state: of gigabytes of weights, so once a process and not once a slide."""
    encoder = _load(choice)
    if choice.state:
        encoder.load_state(choice.state)
    return encoder, encoder.state_hash
