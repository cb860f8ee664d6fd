"""What a file's arrays must be to become a bag, whatever wrote the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from slidesieve.features.bag import Bag, checked_bag, in_float32

MOST_PX0 = 2**31 - 1  # no slide is wider
Thin = Callable[[Bag], Bag]  # leaves tiles out, as `take` and `linspace_cap` do


def bag_of_file(path: Path, slide_id: str, x: np.ndarray, coords: np.ndarray | None, attrs: dict) -> Bag:
    """Make a bag of the arrays of a file, float16 left as it is (see `thinned`).

    Raises ValueError naming the file: features of another shape than (n, d), not finite or all zero; coords that are
    not one whole pair of level-0 px a tile, 0 to 2^31 - 1.
    """
    if fault := _kind_fault(x):
        raise ValueError(f"{path}: {slide_id}: features {x.shape} {fault}")
    try:
        fault = _coords_fault(coords) if coords is not None else ""
        bag = None if fault else checked_bag(slide_id, _without_batch_axis(x), coords, attrs)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from error
    if fault:
        raise ValueError(f"{path}: {slide_id}: coords {fault}")
    if not (bag.x[0].any() or bag.x.any()):
        raise ValueError(
            f"{path}: {slide_id}: features {bag.x.shape} are all zero; expected what an encoder saw; extract them again"
        )
    return bag


def thinned(bag: Bag, thin: Thin | None) -> Bag:
    """Leave out what `thin` leaves out, then widen: tiles that nobody sees cost no conversion."""
    return in_float32(thin(bag) if thin else bag)


def check_not_doubled(path: Path, bag: Bag) -> None:
    """Raise ValueError if every tile stands in the file twice: written by two runs, one after the other."""
    n = len(bag.x)
    half = n // 2
    if n < 2 or n % 2 or not np.array_equal(bag.x[0], bag.x[half]) or not np.array_equal(bag.x[:half], bag.x[half:]):
        return
    if bag.attrs["has_coords"] and not np.array_equal(bag.coords[:half], bag.coords[half:]):
        return
    raise ValueError(
        f"{path}: {bag.slide_id}: the last {half} of {n} rows are the first {half} again; expected every tile once; "
        "the file was appended to by a second run: extract it again"
    )


def _kind_fault(x: np.ndarray) -> str:
    """Say what whole numbers are that stand where features should."""
    if x.dtype.kind == "f":
        return ""
    bits = "; if they are the bits of bfloat16, read them once by torch.from_numpy(x).view(torch.bfloat16)"
    return (
        f"are {x.dtype}, whole numbers; expected floating point: scaled or quantised features must be scaled back, and "
        f"written again{bits if x.dtype.itemsize == 2 else ''}"
    )


def _coords_fault(coords: np.ndarray) -> str:
    if coords.ndim != 2:
        return ""  # said with its shape
    for wrong, found, remedy in (
        (~np.isfinite(coords), "no numbers", "tile the slide again"),
        (coords != np.rint(coords), "fractions", "if they are micrometres, divide them by the slide's mpp and round"),
        ((coords < 0) | (coords > MOST_PX0), "outside every slide", "tile the slide again"),
    ):
        if (rows := np.flatnonzero(wrong.any(1))).size:
            row = rows[0]
            return (
                f"of {len(rows)} tiles are {found}, first row {row}: {coords[row].tolist()}; expected whole level-0 px "
                f"from 0 to {MOST_PX0}; {remedy}"
            )
    return ""


def _without_batch_axis(x: np.ndarray) -> np.ndarray:
    """Some exports carry an empty batch axis."""
    return x.reshape(-1, x.shape[-1]) if x.ndim == 3 and 1 in x.shape[:2] else x
