"""Feature tables in CSV, as SlideChat writes and reads them: a header, then a row for each tile.

The first columns are the features, those after them say where the tile lies. The features' columns are numbered
(`0, 1, ...`, or with a word before the number, `feature_1, feature_2, ...`); without numbers they are SlideChat's first
512. A place is two columns x and y in level-0 px, or a tile's name ending in them (`.../4480_896.png`). Names that
count tiles (`20_4.jpeg`) say nothing in pixels, so such places are unknown.
"""

import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

SLIDECHAT_D = 512
LEAST_WIDTH = 8  # of a table that is taken for features unasked
MOST_PLACE_COLUMNS = 16
MOST_PX0 = 2**31 - 1
LEAST_STEP_PX0 = 16  # closer than any two tiles: numbers of tiles
XY_COLUMNS = (("x", "y"), ("x_px0", "y_px0"), ("coord_x", "coord_y"), ("x_coord", "y_coord"))
NAMED_PLACE = r"(?:^|.*[^\d.])(\d{1,9}) *[_, ] *(\d{1,9})[\])]?(?:\.[A-Za-z]+)?$"


def read_feature_csv(path: Path) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, "n 2"] | None]:
    """Read features as float32, and where the tiles lie or None. Raises ValueError naming line, column and value."""
    with _is_text(path):
        header = _header(path)
    d = _width(path, header)
    types = {i: np.float32 if i < d else str for i in range(len(header))}
    try:
        with np.errstate(over="ignore"):  # overflow is found below, with its place
            table = _read(path, header, types)
    except pd.errors.ParserError as error:
        raise ValueError(f"{path}: {str(error).strip()}; expected a field for each column of line 1") from error
    except NotText:
        raise
    except ValueError as error:
        raise ValueError(_fault(path, header, d)) from error
    x = table.iloc[:, :d].to_numpy(np.float32)
    if not np.isfinite(x).all():
        raise ValueError(_fault(path, header, d))
    return x, _places(path, header[d:], table.iloc[:, d:])


def is_feature_header(names: list[str]) -> bool:
    """Whether names of columns are those of a feature table: the first numbered, eight of them at least."""
    return len(names) >= LEAST_WIDTH and bool(names[0]) and _numbered(names) >= LEAST_WIDTH


class NotText(ValueError):
    """The file is no table of UTF-8 text."""


@contextmanager
def _is_text(path: Path) -> Iterator[None]:
    try:
        yield
    except (UnicodeDecodeError, csv.Error) as error:
        raise NotText(
            f"{path}: not a table of text ({error}); expected CSV in UTF-8; copy it, or write it again"
        ) from error


def _read(path: Path, header: list[str], dtype: dict | type) -> pd.DataFrame:
    with _is_text(path):
        return pd.read_csv(path, header=0, names=range(len(header)), dtype=dtype, na_filter=False, index_col=False)


def _header(path: Path) -> list[str]:
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        header, first = next(lines, []), next(lines, [])
    if not first:
        raise ValueError(f"{path}: {'one line' if header else 'empty'}; expected a header and a line for each tile")
    if len(first) != len(header):
        raise ValueError(f"{path}: line 2 has {len(first)} fields, line 1 {len(header)}; expected as many")
    return [name.strip() for name in header]


def _width(path: Path, header: list[str]) -> int:
    """Return the number of leading columns that are features."""
    d = _numbered(header)
    if not header[0] or sum(map(_is_number, header)) > d:
        what = "holds numbers" if header[0] else "begins with an empty name (a row index?)"
        raise ValueError(f"{path}: line 1 {what}; expected names of columns, features first; write a header, no index")
    if d == 0 or SLIDECHAT_D < d <= SLIDECHAT_D + 4:  # a matrix of features and places is numbered throughout
        d = SLIDECHAT_D
    if not d <= len(header) <= d + MOST_PLACE_COLUMNS:
        raise ValueError(
            f"{path}: {len(header)} columns ({', '.join(header[:3])}, ...), {d} of them taken for features; expected "
            f"features numbered 0, 1, ... first, then at most {MOST_PLACE_COLUMNS} others; rename the columns"
        )
    return d


def _numbered(header: list[str]) -> int:
    """Count the leading names with one word and the numbers 0, 1, ... or 1, 2, ... after it."""
    parts = [re.fullmatch(r"(\D*)(\d+)", name) for name in header]
    if parts[0] is None or parts[0][2] not in ("0", "1"):
        return 0
    word, start = parts[0][1], int(parts[0][2])
    fits = [part is not None and part.groups() == (word, str(start + i)) for i, part in enumerate(parts)]
    return fits.index(False) if False in fits else len(fits)


def _places(path: Path, names: list[str], table: pd.DataFrame) -> Int[np.ndarray, "n 2"] | None:
    columns = dict(zip([name.lower() for name in names], table, strict=True))
    for pair in XY_COLUMNS:
        if set(pair) <= set(columns):
            return _pixels(path, pair, table[[columns[name] for name in pair]])
    for column in table:
        found = table[column].str.strip().str.extract(NAMED_PLACE)
        if not found.isna().any(axis=None) and _are_pixels(coords := found.to_numpy(np.int64)):
            return coords
    return None


def _pixels(path: Path, pair: tuple[str, str], table: pd.DataFrame) -> Int[np.ndarray, "n 2"]:
    coords = table.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    whole = (coords == np.rint(coords)) & (np.abs(coords) <= MOST_PX0)
    if not whole.all():
        row, column = np.argwhere(~whole)[0]
        got = table.iloc[row, column]
        raise ValueError(f"{path}: line {row + 2}, column {pair[column]!r}: got {got!r}; expected a whole level-0 px")
    return coords.astype(np.int64)


def _are_pixels(coords: Int[np.ndarray, "n 2"]) -> bool:
    """No two tiles in one place, and none closer than tiles can be."""
    steps = np.concatenate([np.diff(np.unique(axis)) for axis in coords.T])
    return len(np.unique(coords, axis=0)) == len(coords) and bool((steps >= LEAST_STEP_PX0).all())


def _fault(path: Path, header: list[str], d: int) -> str:
    """Say which field is the first that is no finite number; the file is read again, as words."""
    words = _read(path, header, str)
    with np.errstate(over="ignore"):
        values = words.iloc[:, :d].apply(pd.to_numeric, errors="coerce").to_numpy(float).astype(np.float32)
    faults = np.argwhere(~np.isfinite(values))
    if not len(faults):  # pandas reads fewer spellings of a number when it is told to expect one
        return f"{path}: a field that is no plain number; expected finite numbers; extract it again"
    row, column = faults[0]
    got = words.iloc[row, column]
    return f"{path}: line {row + 2}, column {header[column]!r}: got {got!r}; expected a finite number; extract it again"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
