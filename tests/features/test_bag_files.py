"""Bags read when asked for: the same bags, each read once while they fit, never more memory than allowed."""

import os
from collections import Counter

import h5py
import numpy as np
import pandas as pd
import pytest
from slide_files import write_manifest

from slidesieve.analyses.lengths import random_tiles
from slidesieve.cohort.manifest import Manifest, read_manifest
from slidesieve.features.bag import linspace_cap, make_bag
from slidesieve.features.bag_files import BagFiles, BagView, load_available_bags, load_bags, n_tiles
from slidesieve.features.places import placed_files
from slidesieve.features.readers import read_bag
from slidesieve.features.store import PackedStore, write_features, write_packed

D = 33
LENGTHS = {"a": 75, "b": 7, "c": 1, "e": 41, "d": 20}


def bag_of(slide: str, d: int = D):
    n, rng = LENGTHS[slide], np.random.default_rng(ord(slide))
    x = rng.standard_normal((n, d)).astype(np.float16).astype(np.float32)
    return make_bag(slide, x, rng.integers(0, 9999, (n, 2)) * 16, {})


class Counted:
    """Reads bags and counts how often."""

    def __init__(self, widths: dict[str, int] | None = None):
        self.times, self.widths = Counter(), widths or {}

    def __call__(self, slide):
        self.times[slide] += 1
        return bag_of(slide, self.widths.get(slide, D))


def files(read, memory_tiles: int, **changes) -> BagFiles:
    size = bag_of("c").x.nbytes + bag_of("c").coords.nbytes
    return BagFiles(LENGTHS, read, **{"count": LENGTHS.get, "memory_bytes": memory_tiles * size} | changes)


def same(one, other) -> bool:
    return (
        one.slide_id == other.slide_id and np.array_equal(one.x, other.x) and np.array_equal(one.coords, other.coords)
    )


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Slides in a packed store (a, b), another's file (c), a CSV (e) and a file of ours (d)."""
    monkeypatch.delenv("DATA_ROOT", raising=False)
    write_packed(tmp_path / "p.h5", [bag_of("a"), bag_of("b")])
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["features"], file["coords"] = bag_of("c").x[None], bag_of("c").coords
    e = bag_of("e")
    rows = [",".join([*map(repr, x.tolist()), f"{p[0]}_{p[1]}.png"]) for x, p in zip(e.x, e.coords, strict=True)]
    (tmp_path / "e.csv").write_text("\n".join([",".join([*map(str, range(D)), "tile"]), *rows]))
    write_features(tmp_path / "d.h5", bag_of("d"), {})
    places = {"a": "p.h5", "b": "p.h5", "c": "c.h5", "e": "e.csv", "d": "", "f": "none.h5"}
    return read_manifest(
        write_manifest(tmp_path / "m.csv", [{"slide_id": s, "feature_path": p} for s, p in places.items()])
    )


def test_the_same_bags_as_when_each_file_is_read_in_order(cohort):
    folder = cohort.root
    bags = load_available_bags(cohort, folder, ["d", "e", "f", "c", "b", "a"])
    assert list(bags) == ["d", "e", "c", "b", "a"] and len(bags) == 5 and "f" not in bags and "a" in bags
    assert all(same(bags[s], bag_of(s)) for s in LENGTHS)
    assert all(same(bags[s], read_bag(folder / name, s)) for s, name in {"c": "c.h5", "e": "e.csv"}.items())
    assert [bag.slide_id for bag in bags.values()] == list(bags)
    with pytest.raises(KeyError, match="f"):
        bags["f"]
    with pytest.raises(FileNotFoundError, match="f: no feature file"):
        load_bags(cohort, folder, ["a", "f"])


def test_a_manifest_of_many_rows_is_gone_through_as_often_for_all_slides_as_for_one(tmp_path):
    n, times = 100_000, Counter()
    table = pd.DataFrame({"slide_id": [f"s{i}" for i in range(n)], "feature_path": "none.h5", "mpp": 0.5})

    class Watched:
        def __getitem__(self, column):
            times[column] += 1
            return table[column]

    assert len(load_available_bags(Manifest(Watched(), tmp_path), None, table["slide_id"][:3000])) == 0
    assert times == {"slide_id": 1, "feature_path": 1, "mpp": 1}


@pytest.mark.parametrize("most", [0, 30])
def test_tiles_are_counted_without_reading_any_but_the_csv(cohort, monkeypatch, most):
    read, times = placed_files.read_bag, Counter()

    def counted_read(path, slide, **how):
        times.update([slide])
        return read(path, slide, **how)

    monkeypatch.setattr(placed_files, "read_bag", counted_read)
    monkeypatch.setattr(PackedStore, "read", lambda *_: pytest.fail("read a packed bag"))
    bags = load_bags(cohort, cohort.root, LENGTHS, most_tiles=most)
    counted = {s: n_tiles(bags, s) for _ in range(2) for s in bags}
    assert counted == {s: min(n, most or n) for s, n in LENGTHS.items()}
    assert times == {"e": 1} and len(bags["e"].x) == counted["e"]
    monkeypatch.undo()
    assert all(len(bags[s].x) == n for s, n in counted.items())
    assert all(same(bags[s], linspace_cap(bag_of(s), most or 999)) for s in LENGTHS)


def test_each_bag_is_read_once_if_all_fit_and_none_before_it_is_asked_for():
    read = Counted()
    bags = files(read, sum(LENGTHS.values()))
    assert sorted(bags, key=lambda s: n_tiles(bags, s)) == ["c", "b", "d", "e", "a"] and not read.times
    for _ in range(3):
        assert all(same(bags[s], bag_of(s)) for s in LENGTHS)
    assert set(read.times.values()) == {1} and bags.held_bytes == bags.memory_bytes


@pytest.mark.parametrize("memory_tiles", [0, 7, 50, 76, 143])
def test_memory_is_what_a_naive_list_of_the_latest_would_take(memory_tiles):
    """The latest used bags, as many as fit; a bag larger than the budget is handed out and not kept."""
    read, latest, reads = Counted(), [], Counter()
    bags = files(read, memory_tiles)
    for slide in np.random.default_rng(3).choice(list(LENGTHS), 200):
        assert len(bags[slide].x) == LENGTHS[slide]
        reads[slide] += slide not in latest
        if LENGTHS[slide] <= memory_tiles:
            latest = [s for s in latest if s != slide] + [slide]
        while sum(LENGTHS[s] for s in latest) > memory_tiles:
            latest.pop(0)
        held = sum(bag_of(s).x.nbytes + bag_of(s).coords.nbytes for s in latest)
        assert bags.held_bytes == held <= bags.memory_bytes
    assert read.times == reads


def test_another_width_is_refused_with_both_slides_named():
    bags = files(Counted({"e": 31}), 999)
    assert bags["b"].x.shape == (7, D)
    with pytest.raises(ValueError, match="e: features of width 31, those of b are of 33; use one encoder"):
        bags["e"]


def test_a_view_renames_and_thins_without_reading():
    read = Counted()
    bags = files(read, 999)
    swapped = BagView(bags, {"a": "b", "b": "a"})
    tiles = {s: random_tiles(s, LENGTHS[s], size=5, draw=0, seed=0) for s in ("a", "b")}
    part = BagView(bags, ["a", "b", "a"], tiles=tiles)
    assert list(swapped) == list(part) == ["a", "b"] and "c" not in part and not read.times
    assert [n_tiles(swapped, s) for s in swapped] == [7, 75] and [n_tiles(part, s) for s in part] == [5, 5]
    assert not read.times
    assert same(swapped["a"], bag_of("b"))
    assert all(np.array_equal(part[s].x, bag_of(s).x[tiles[s]]) for s in part)
    assert n_tiles({"a": bag_of("a")}, "a") == 75


def test_a_fork_reads_right_beside_its_parent(cohort):
    """Parent and children read one open packed store at the same time, in opposite orders, nothing kept."""
    bags = load_bags(cohort, cohort.root, LENGTHS, memory_bytes=0)
    assert same(bags["a"], bag_of("a"))  # the store is open, its index read
    children = []
    for order in (1, -1):
        if not (pid := os.fork()):
            right = False
            try:
                right = all(same(bags[s], bag_of(s)) for _ in range(50) for s in list("abcd")[::order])
            finally:
                os._exit(0 if right else 1)
        children.append(pid)
    assert all(same(bags[s], bag_of(s)) for _ in range(50) for s in "dbac")
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
    assert same(bags["b"], bag_of("b"))


def test_a_fork_has_a_file_of_its_own(cohort):
    """The place in an open file is shared by a fork: the child's store must not stand on its parent's."""
    bags = load_bags(cohort, cohort.root, ["a", "b"])
    store = bags["a"] and bags._read.__self__._stores[cohort.root / "p.h5"]
    parent = store._file.id.get_vfd_handle()
    if not (pid := os.fork()):
        moved = False
        try:
            os.lseek(parent, 17, os.SEEK_SET)
            bags["b"]
            own = store._file.id.get_vfd_handle()
            moved = os.lseek(own, 0, os.SEEK_CUR) != 17
        finally:
            os._exit(0 if moved else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert same(bags["b"], bag_of("b"))
