"""Feature tables in CSV: which columns are features, which a place, and what is refused by line, column and value."""

import csv
from pathlib import Path

import numpy as np
import pytest

from slidesieve.features.readers import read_bag

N, D = 9, 5
X = np.random.default_rng(1).standard_normal((N, D)).astype(np.float32)
X[0, 0], X[1, 1] = 3e-39, -0.0  # below float32's normal numbers; a zero with a sign
XY = np.array([(448 * (i % 4) + 31, 224 * (i // 4)) for i in range(N)])
NAMES = [str(i) for i in range(D)]


def write(path: Path, header: list[str], rows: list[list]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def rows(*places: list, x: np.ndarray = X) -> list[list]:
    """Features as text that names each float32 exactly, then the columns given."""
    return [[*map(repr, map(float, line)), *(column[i] for column in places)] for i, line in enumerate(x)]


@pytest.mark.parametrize("names", [NAMES, ["1", "2", "3", "4", "5"], [f"feature_{i}" for i in range(D)]])
def test_numbered_columns_are_features_bit_for_bit(tmp_path, names):
    path = write(tmp_path / "s.csv", [*names, "Y", " x "], rows(XY[:, 1].tolist(), [f"{x}.0" for x in XY[:, 0]]))
    bag = read_bag(path, "any")
    assert bag.x.dtype == np.float32 and np.array_equal(bag.x.view(np.int32), X.view(np.int32))
    assert np.array_equal(bag.coords, XY) and bag.coords.dtype == np.int64
    assert bag.slide_id == "any" and bag.attrs == {"has_coords": True}
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n"))  # as a spreadsheet saves it
    assert np.array_equal(read_bag(path, "any").x, X)


@pytest.mark.parametrize(
    "form",
    ["{x}_{y}.png", "1/{x}_{y}.jpeg", "TCGA-2F-A9KO-01Z-00-DX1_{x}_{y}", "({x}, {y})", "[{x} {y}]", "a.b-{x}_{y}.JPG"],
)
def test_a_place_is_read_from_a_tiles_name(tmp_path, form):
    names = [form.format(x=x, y=y) for x, y in XY]
    for other in ("tumour", "0_1"):  # no place, and one place for all tiles: the next column is looked at
        bag = read_bag(write(tmp_path / "s.csv", [*NAMES, "region", "where"], rows([other] * N, names)), "s")
        assert np.array_equal(bag.coords, XY) and bag.attrs["has_coords"] and bag.x.shape == (N, D)


def test_what_says_no_pixels_is_no_place(tmp_path):
    counted = [f"{i % 4}_{i // 4}.jpeg" for i in range(N)]  # columns and rows of tiles
    sized = [f"{x}_{y}_224.png" for x, y in XY]
    some = [f"{x}_{y}.png" for x, y in XY[1:]] + ["thumbnail.png"]
    for places in ([], [counted], [sized], [some], [["tile"] * N]):
        header = [*NAMES, *(f"name{i}" for i in range(len(places)))]
        bag = read_bag(write(tmp_path / "s.csv", header, rows(*places)), "s")
        assert bag.attrs["has_coords"] is False and np.array_equal(bag.coords[:, 0], np.arange(N))
        assert np.array_equal(bag.x, X)


@pytest.mark.parametrize("numbers", [range(512), range(514), None])
def test_slidechats_features_are_the_first_512(tmp_path, numbers):
    wide = np.random.default_rng(2).standard_normal((3, 512)).astype(np.float32)
    header = [f"c{chr(97 + i % 26)}" if numbers is None else str(i) for i in range(512)]
    header += ["512", "513"] if numbers and len(numbers) == 514 else ["position", "file"]
    names = [f"TCGA_{x}_{y}.jpeg" for x, y in XY]
    bag = read_bag(write(tmp_path / "s.csv", header, rows(["ROI"] * 3, names, x=wide)), "s")
    assert np.array_equal(bag.x, wide) and np.array_equal(bag.coords, XY[:3])


def changed(line: int, column: int, value: str) -> list[list]:
    table = rows(XY[:, 0].tolist(), XY[:, 1].tolist())
    table[line][column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (changed(6, 3, "1.2e"), r"s.csv: line 8, column '3': got '1.2e'; expected a finite number"),
        (changed(2, 0, ""), r"line 4, column '0': got ''; expected a finite"),
        (changed(0, 4, "nan"), r"line 2, column '4': got 'nan'"),
        (changed(8, 4, "inf"), r"line 10, column '4': got 'inf'"),
        (changed(5, 1, "1e39"), r"line 7, column '1': got '1e39'"),
        (changed(4, 6, "2.5"), r"line 6, column 'y': got '2.5'; expected a whole level-0 px"),
        (changed(4, 5, "left"), r"line 6, column 'x': got 'left'"),
        ([*rows([1] * N, [2] * N)[:-1], ["0.5"] * 3], r"line 10, column '3': got ''"),
        ([*rows([1] * N, [2] * N)[:-1], ["0.5"] * 8], r"Expected 7 fields in line 10, saw 8"),
        ([["1"] * 8], r"line 2 has 8 fields, line 1 7"),
        ([], r"one line; expected a header and a line for each tile"),
    ],
)
def test_a_fault_is_named_by_line_column_and_value(tmp_path, table, message):
    with pytest.raises(ValueError, match=message):
        read_bag(write(tmp_path / "s.csv", [*NAMES, "x", "y"], table), "s")


def test_a_header_that_does_not_say_what_is_a_feature_is_refused(tmp_path):
    for header, message in (
        (["0.25", "-1.5", "0.5", "1e-3", "2.0"], "line 1 holds numbers; expected names"),
        (["0", "0.5", "0.25", "0.0", "1"], "line 1 holds numbers; expected names"),
        (["", *NAMES[:-1]], "line 1 begins with an empty name .*a row index.*no index"),
        (["a", "b", "c", "x", "y"], r"5 columns \(a, b, c, ...\), 512 of them taken for features"),
    ):
        with pytest.raises(ValueError, match=message):
            read_bag(write(tmp_path / "s.csv", header, rows()), "s")
    late = ["x1", "x2", *(f"f{i}" for i in range(17))]
    with pytest.raises(ValueError, match=r"19 columns .*2 of them taken for features; expected features numbered"):
        read_bag(write(tmp_path / "s.csv", late, [["1"] * len(late)]), "s")
    (tmp_path / "s.csv").write_text("")
    with pytest.raises(ValueError, match="empty; expected a header"):
        read_bag(tmp_path / "s.csv", "s")
