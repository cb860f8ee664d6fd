"""A slide's tiles as a bag, bags of different lengths as one padded batch, norms and spectrum of their features."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Bag(NamedTuple):
    """The features of one slide. Without known places coords are (i, 0) and attrs["has_coords"] is False.

    Of a thinned bag, `index` says which of the slide's `length` tiles these are; None: all of them, in order.
    """

    slide_id: str
    x: Float[np.ndarray, "n d"]
    coords: Int[np.ndarray, "n 2"]
    attrs: dict
    index: Int[np.ndarray, " n"] | None = None
    length: int = 0

    @property
    def slide_index(self) -> Int[np.ndarray, " n"]:
        """Each tile's place in the order of the slide's tiles, before any were left out."""
        return np.arange(len(self.x)) if self.index is None else self.index

    @property
    def slide_length(self) -> int:
        """How many tiles the slide has, those left out included."""
        return len(self.x) if self.index is None else self.length


def make_bag(slide_id: str, x: np.ndarray, coords: np.ndarray | None, attrs: dict) -> Bag:
    """Check arrays and make them a Bag of float32 and int64. Raises ValueError naming the slide and the fault."""
    return in_float32(checked_bag(slide_id, x, coords, attrs))


def checked_bag(slide_id: str, x: np.ndarray, coords: np.ndarray | None, attrs: dict) -> Bag:
    """Check arrays as `make_bag` does, and leave float16 as it is, until `in_float32`."""
    if x.ndim != 2 or not len(x):
        raise ValueError(f"{slide_id}: features of shape {x.shape}; expected (n, d) with n >= 1; extract them again")
    x = x if x.dtype == np.float16 else x.astype(np.float32, copy=False)
    if not _is_finite(x):
        rows = np.flatnonzero(~np.isfinite(x).all(1))
        raise ValueError(f"{slide_id}: {len(rows)} rows of features are not finite, first row {rows[0]}; extract again")
    known = coords is not None
    if not known:
        coords = np.stack([np.arange(len(x)), np.zeros(len(x), int)], 1)
    if coords.shape != (len(x), 2):
        raise ValueError(f"{slide_id}: coords {coords.shape} for features {x.shape}; expected one (x, y) a row")
    return Bag(slide_id, x, coords.astype(np.int64), {"has_coords": known} | attrs)


def in_float32(bag: Bag) -> Bag:
    """Widen a bag's features from float16 to float32, which is exact."""
    if bag.x.dtype != np.float16:
        return bag
    wide, half = np.empty(bag.x.shape, np.float32), np.require(bag.x, requirements="CW")
    torch.from_numpy(wide).copy_(torch.from_numpy(half))  # numpy takes four times as long
    return bag._replace(x=wide)


class Batch(NamedTuple):
    """Padded bags: `mask` is True on real tiles; padding stands at the end and holds zeros.

    `index` and `length` say which tiles of their slides these are (see `Bag`); None: all of them, in order.
    """

    x: Float[Tensor, "b n d"]
    coords: Int[Tensor, "b n 2"]
    mask: Bool[Tensor, "b n"]
    index: Int[Tensor, "b n"] | None = None
    length: Int[Tensor, " b"] | None = None

    def to(self, device) -> "Batch":
        return Batch(*(part if part is None else part.to(device) for part in self))

    @property
    def tiles(self) -> tuple[Float[Tensor, "b n d"], Int[Tensor, "b n 2"], Bool[Tensor, "b n"]]:
        """What a compressor takes."""
        return self.x, self.coords, self.mask

    @property
    def slide_index(self) -> Int[Tensor, "b n"]:
        """Each tile's place in the order of its slide's tiles, before any were left out."""
        every = torch.arange(self.mask.shape[1], device=self.mask.device).expand(self.mask.shape)
        return every if self.index is None else self.index

    @property
    def slide_length(self) -> Int[Tensor, " b"]:
        """How many tiles each slide has, those left out included."""
        return self.mask.sum(-1) if self.length is None else self.length


def collate(bags: Sequence[Bag]) -> Batch:
    """Pad bags to the longest. Raises ValueError naming a bag that is empty or of another feature width."""
    d = bags[0].x.shape[1]
    for bag in bags:
        if len(bag.x) == 0 or bag.x.shape[1] != d:
            raise ValueError(f"{bag.slide_id}: got {bag.x.shape} features; expected at least one tile of width {d}")
    b, n = len(bags), max(len(bag.x) for bag in bags)
    index, length_of = torch.zeros(b, n, dtype=torch.long), torch.tensor([bag.slide_length for bag in bags])
    coords, mask = torch.zeros(b, n, 2, dtype=torch.long), torch.zeros(b, n, dtype=torch.bool)
    batch = Batch(torch.zeros(b, n, d), coords, mask, index, length_of)
    for i, bag in enumerate(bags):
        length = len(bag.x)
        batch.x[i, :length] = torch.from_numpy(np.ascontiguousarray(bag.x, dtype=np.float32))
        batch.coords[i, :length] = torch.from_numpy(np.ascontiguousarray(bag.coords, dtype=np.int64))
        batch.mask[i, :length] = True
        batch.index[i, :length] = torch.from_numpy(np.ascontiguousarray(bag.slide_index, dtype=np.int64))
    return batch


def take(bag: Bag, tiles: Int[np.ndarray, " m"]) -> Bag:
    """Return the bag of the named tiles, in the order given; each still knows its place in the slide."""
    index = bag.slide_index[tiles]
    return bag._replace(x=bag.x[tiles], coords=bag.coords[tiles], index=index, length=bag.slide_length)


def linspace_cap(bag: Bag, most: int) -> Bag:
    """Return at most `most` tiles, evenly spaced in the bag's order, first and last included (SlideChat's rule)."""
    if len(bag.x) <= most:
        return bag
    return take(bag, np.linspace(0, len(bag.x) - 1, most).astype(np.int64))


def in_box(bag: Bag, box: tuple[int, int, int, int]) -> Bag:
    """Return the tiles whose top-left corner lies in the box (x, y, width, height), all in level-0 px.

    A region is shown as a slide of its own: its tiles are numbered within it, so that what follows a region of ten
    tiles does not stand thousands of positions behind them.
    """
    x, y, width, height = box
    column, row = bag.coords.T
    inside = (x <= column) & (column < x + width) & (y <= row) & (row < y + height)
    if not inside.any():
        raise ValueError(f"{bag.slide_id}: no tile in the box x={x} y={y} width={width} height={height} (level-0 px)")
    return take(bag, inside.nonzero()[0])._replace(index=None, length=0)


def norms(bags: Iterable[Bag]) -> Float[np.ndarray, " n"]:
    """Return the length of every feature of some bags."""
    return np.concatenate([np.linalg.norm(bag.x, axis=1) for bag in bags])


def spectrum(bags: Iterable[Bag]) -> Float[np.ndarray, " d"]:
    """Return the share of variance along each principal axis of the features, largest first; it adds up to 1."""
    x = np.concatenate([bag.x for bag in bags]).astype(np.float64)
    variance = np.linalg.eigvalsh(np.cov(x.T))[::-1].clip(0)
    return variance / variance.sum()


def _is_finite(x: np.ndarray) -> bool:
    """Say whether all numbers are finite, in one pass or two."""
    if x.dtype == np.float16:  # by its bits, ten times faster: what is not finite comes last among both signs
        return x.view(np.int16).max(initial=0) < 0x7C00 and x.view(np.uint16).max(initial=0) < 0xFC00
    return bool(np.isfinite(x.sum()) or np.isfinite(x).all())  # the sum alone is several times faster, and may overflow
