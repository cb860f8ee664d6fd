"""A packed folder: parts of many slides read as one store, whoever wrote them, however often they were killed."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from slide_files import write_manifest

from slidesieve.cohort.ledger import Ledger
from slidesieve.cohort.manifest import read_manifest
from slidesieve.cohort.slide_loop import SlidesLost, TooManyFailed
from slidesieve.datasets.found_files import look_through as find
from slidesieve.features.bag import linspace_cap, make_bag
from slidesieve.features.bag_files import load_available_bags, load_bags, n_tiles, open_features
from slidesieve.features.places import packing
from slidesieve.features.places.manifest_sources import ManifestSources, slides_with_features
from slidesieve.features.places.packed_folder import INDEX, PackedFolder, look_through, open_store, rows_of, superseded
from slidesieve.features.places.packing import batches_of, pack
from slidesieve.features.readers import describe, is_packed, read_bag
from slidesieve.features.store import write_features, write_packed
from slidesieve.provenance.locks import is_held, taken

D = 9
SLIDES = [f"s{i}" for i in range(17)]
HERE = Path(__file__).parent


class Made(NamedTuple):
    """Bags out of a folder of words: `<slide>.json` holds a seed, a number of tiles, perhaps a fault."""

    folder: Path

    def said(self, slide_id: str) -> dict:
        return json.loads((self.folder / f"{slide_id}.json").read_text())

    def read(self, slide_id: str):
        said = self.said(slide_id)
        if fault := said.get("fault"):
            if fault == "hangs":
                (self.folder / "hanging").touch()
                time.sleep(300)
            raise {"value": ValueError, "key": KeyError}[fault](f"{slide_id} is bad")
        draw = np.random.default_rng(said["seed"])
        x = draw.standard_normal((said["n"], said.get("d", D))).astype(np.float16).astype(np.float32)
        coords = draw.integers(0, 9000, (said["n"], 2)) if said.get("coords", True) else None
        return make_bag(
            slide_id, x * said.get("scale", 1), coords, {"encoder": "e", "mpp": 0.5} | said.get("attrs", {})
        )

    def identity(self, slide_id: str) -> str:
        return str(self.said(slide_id))

    def n_bytes(self, slide_id: str) -> int:
        return 4 * D * self.said(slide_id)["n"]


def say(folder: Path, slide_id: str, **said) -> None:
    folder.mkdir(exist_ok=True)
    said = {"seed": int(slide_id[1:]), "n": 1 + 5 * int(slide_id[1:]) % 23} | said
    (folder / f"{slide_id}.json").write_text(json.dumps(said))


@pytest.fixture
def made(tmp_path) -> Made:
    for slide_id in SLIDES:
        say(tmp_path / "made", slide_id)
    return Made(tmp_path / "made")


def packed(made: Made, folder: Path, ids=SLIDES, *, workers=0, share=0.9, recipe="r", slides=3):
    how = {"recipe": recipe, "ledger": Ledger(folder / "ledger.csv"), "workers": workers, "max_failed_share": share}
    return pack(made, ids, folder, part_slides=slides, **how).set_index("slide_id")


def parts_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("part_*.h5"))


def check(folder: Path, made: Made, ids=SLIDES) -> PackedFolder:
    """Hold every bag of a folder against the one that was made: no more and no fewer."""
    opened = PackedFolder(folder)
    assert sorted(opened.slide_ids) == sorted(ids)
    for slide_id in ids:
        bag, wanted = opened.read(slide_id), made.read(slide_id)
        assert bag.slide_id == slide_id and opened.n_tiles(slide_id) == len(wanted.x)
        assert bag.x.tobytes() == wanted.x.astype(np.float16).astype(np.float32).tobytes()
        assert bag.coords.tolist() == wanted.coords.tolist()
        assert bag.attrs["has_coords"] is wanted.attrs["has_coords"]
    return opened


def by_hand(made: Made, ids, most_slides: int, most_bytes: int) -> list[list[str]]:
    """Each slide goes to the part before it if that has room."""
    parts = [[]]
    for slide_id in ids:
        held = sum(made.n_bytes(other) for other in parts[-1])
        if parts[-1] and (len(parts[-1]) == most_slides or held + made.n_bytes(slide_id) > most_bytes):
            parts.append([])
        parts[-1].append(slide_id)
    return parts


@pytest.mark.parametrize(("most_slides", "most_bytes"), [(3, 1 << 30), (99, 700), (1, 1), (4, 1200)])
def test_batches_are_those_of_a_loop_and_leave_no_worker_without(made, most_slides, most_bytes):
    how = {"most_slides": most_slides, "most_bytes": most_bytes}
    assert batches_of(SLIDES, made, workers=1, **how) == by_hand(made, SLIDES, most_slides, most_bytes)
    share = -(-sum(map(made.n_bytes, SLIDES)) // 5)
    five = batches_of(SLIDES, made, workers=5, **how)
    assert len(five) >= 5 and five == by_hand(made, SLIDES, most_slides, min(most_bytes, share))


@pytest.mark.parametrize("workers", [0, 2])
def test_many_writers_parts_are_one_writer_s_file(made, tmp_path, workers):
    rows = packed(made, tmp_path / "p", workers=workers)
    write_packed(tmp_path / "one.h5", [made.read(slide_id) for slide_id in SLIDES])
    opened, one = check(tmp_path / "p", made), open_store(tmp_path / "one.h5")
    assert len(parts_in(tmp_path / "p")) == 6 and rows.index.tolist() == SLIDES and set(rows["status"]) == {"ok"}
    for slide_id in SLIDES:
        assert opened.read(slide_id).x.tobytes() == one.read(slide_id).x.tobytes()
        assert rows.at[slide_id, "n_tiles"] == one.n_tiles(slide_id)
    again = pickle.loads(pickle.dumps(opened)).read("s7")
    assert again.x.tobytes() == one.read("s7").x.tobytes() and again.attrs["encoder"] == "e"
    assert not list((tmp_path / "p").glob(".*.partial"))


def test_what_is_packed_is_kept_and_more_slides_are_appended(made, tmp_path):
    packed(made, tmp_path / "p", SLIDES[:10])
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in parts_in(tmp_path / "p")}
    packed(made, tmp_path / "p")
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in parts_in(tmp_path / "p")[: len(before)]} == before
    assert len(parts_in(tmp_path / "p")) == 4 + 3
    check(tmp_path / "p", made)
    assert packed(made, tmp_path / "p", SLIDES[3:5])["status"].tolist() == ["ok", "ok"]
    assert len(parts_in(tmp_path / "p")) == 7
    check(tmp_path / "p", made)  # those no longer asked for stay


def test_a_changed_source_is_packed_again_and_its_old_row_counts_no_longer(made, tmp_path):
    packed(made, tmp_path / "p")
    say(made.folder, "s4", seed=99, n=31)
    say(made.folder, "s5", fault="value")
    n_parts = len(parts_in(tmp_path / "p"))
    rows = packed(made, tmp_path / "p")
    assert rows.at["s5", "status"] == "failed" and (rows.drop("s5")["status"] == "ok").all()
    assert len(parts_in(tmp_path / "p")) == n_parts + 2  # what was withdrawn, and what was packed
    check(tmp_path / "p", made, [s for s in SLIDES if s != "s5"])
    with pytest.raises(ValueError, match="s5: not among the 16 slides of"):
        read_bag(tmp_path / "p", "s5")
    say(made.folder, "s5")
    packed(made, tmp_path / "p")
    check(tmp_path / "p", made)


def test_another_recipe_packs_all_again(made, tmp_path):
    packed(made, tmp_path / "p", recipe="old")
    packed(made, tmp_path / "p", recipe="new")
    assert {row.recipe for row in check(tmp_path / "p", made).rows.values()} == {"new"}
    for name in (idle := superseded(look_through(tmp_path / "p")[0])):
        (tmp_path / "p" / name).unlink()
    check(tmp_path / "p", made)
    assert len(idle) == 6 and not superseded(look_through(tmp_path / "p")[0])


def test_a_slide_whose_source_is_gone_is_kept_and_told(made, tmp_path):
    packed(made, tmp_path / "p")
    kept = made.read("s2")
    (made.folder / "s2.json").unlink()
    rows = packed(made, tmp_path / "p")
    assert rows.at["s2", "status"] == "ok" and "not there to be checked" in rows.at["s2", "message"]
    assert PackedFolder(tmp_path / "p").read("s2").x.tobytes() == kept.x.tobytes()
    with pytest.raises(SlidesLost, match="s2"):
        packed(made, tmp_path / "p", recipe="another")
    assert PackedFolder(tmp_path / "p").read("s2").x.tobytes() == kept.x.tobytes()  # nothing took its place


@pytest.mark.parametrize("workers", [0, 1])
def test_a_slide_that_fails_stands_alone_in_the_ledger(made, tmp_path, workers):
    say(made.folder, "s3", fault="value")
    say(made.folder, "s4", fault="key")
    say(made.folder, "s9", d=D + 1)
    say(made.folder, "s10", scale=1e9)
    (made.folder / "s12.json").unlink()
    bad = {"s3": "s3 is bad", "s4": "is bad", "s10": "do not fit float16", "s12": "No such file"}
    bad["s9"] = f"s9: features of width {D + 1}, others in p are of {D}"
    rows = packed(made, tmp_path / "p", workers=workers, slides=7)
    assert set(rows.index[rows["status"] == "failed"]) == set(bad)
    assert all(message in rows.at[slide_id, "message"] for slide_id, message in bad.items())
    check(tmp_path / "p", made, [s for s in SLIDES if s not in bad])
    with pytest.raises(TooManyFailed, match="5 of 17 slides failed"):
        packed(made, tmp_path / "p", share=0.2)
    check(tmp_path / "p", made, [s for s in SLIDES if s not in bad])


def test_slides_without_places_and_of_other_scales_keep_what_they_say(made, tmp_path):
    say(made.folder, "s1", coords=False)
    say(made.folder, "s2", attrs={"patch_size_level0": 512, "mpp": 0.25})
    say(made.folder, "s3", attrs={"patch_size_level0": 256})
    say(made.folder, "s5", attrs={"patch_size_level0": [256, 256], "mpp": None, "encoder": {}})
    packed(made, tmp_path / "p", slides=17)
    opened = check(tmp_path / "p", made)
    told = {s: opened.read(s).attrs.get("patch_size_level0") for s in ("s1", "s2", "s3")}
    assert told == {"s1": None, "s2": 512, "s3": 256} and opened.read("s2").attrs["mpp"] == 0.25


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [torn, emptied, half])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_torn_part_is_refused_by_name_and_packed_again(made, tmp_path, damage, indexed):
    packed(made, tmp_path / "p")
    if not indexed:
        (tmp_path / "p" / INDEX).unlink()
    part = parts_in(tmp_path / "p")[2]
    damage(part)
    with pytest.raises(ValueError, match=rf"1 of 6 parts cannot be read, the first is {part.name} .*run 21_pack_feat"):
        PackedFolder(tmp_path / "p")
    packed(made, tmp_path / "p")
    check(tmp_path / "p", made)
    assert (tmp_path / "p" / f"{part.name}.stale").exists() and len(parts_in(tmp_path / "p")) == 5 + 1


def test_what_others_put_there_is_left_alone(made, tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    foreign = {"notes.txt": b"mine", "other.h5": b"", ".other.h5.partial": b"x", "part_1.h5": b"y", INDEX: b"z"}
    for name, data in foreign.items():
        (folder / name).write_bytes(data)
    shutil.copy(_foreign_part(tmp_path), folder / "part_000002_0123abcd.h5")
    theirs = (folder / "part_000002_0123abcd.h5").read_bytes()
    (folder / ".part_000001_0123abcd.h5.partial").write_bytes(b"what a kill left of ours")
    packed(made, folder)
    packed(made, folder, recipe="new")
    check(folder, made)
    foreign[f"{INDEX}.stale"] = foreign.pop(INDEX)
    assert {name: (folder / name).read_bytes() for name in foreign} == foreign
    assert (folder / "part_000002_0123abcd.h5").read_bytes() == theirs
    assert not (folder / ".part_000001_0123abcd.h5.partial").exists()


def _foreign_part(folder: Path) -> Path:
    write_packed(folder / "foreign.h5", [make_bag("s1", np.ones((3, D)), None, {})])
    return folder / "foreign.h5"


def test_the_index_says_what_the_parts_say_and_is_nothing_else(made, tmp_path):
    folder = tmp_path / "p"
    packed(made, folder, SLIDES[:5])
    say(made.folder, "s1", seed=5, n=2)
    packed(made, folder)
    by_index = look_through(folder)[0]
    (folder / INDEX).unlink()
    by_parts = look_through(folder)[0]
    assert rows_of(by_index) == rows_of(by_parts) and [*by_index] == [*by_parts]
    for one, other in zip(by_index.values(), by_parts.values(), strict=True):
        assert one[:5] == other[:5] and one.n.tolist() == other.n.tolist()
    (folder / INDEX).write_bytes(b"junk")
    check(folder, made)
    extra = next(iter(by_parts))
    packed(made, folder)
    (folder / extra).unlink()  # a part that the index still knows
    assert extra not in look_through(folder)[0]


def test_a_part_is_opened_once_a_process(made, tmp_path, monkeypatch):
    packed(made, tmp_path / "p")
    opened = []
    kept = h5py.File.__init__

    def counted(self, name, *args, **kwargs):
        if isinstance(name, str | bytes | os.PathLike):  # else an open object, wrapped anew
            opened.append(Path(os.fsdecode(name)).name)
        kept(self, name, *args, **kwargs)

    monkeypatch.setattr(h5py.File, "__init__", counted)
    folder = PackedFolder(tmp_path / "p")
    assert opened == [INDEX]
    for _ in range(3):
        for slide_id in SLIDES:
            folder.read(slide_id)
    assert len(opened) == 1 + 2 * 6  # its header, and its rows


def test_two_packers_do_not_meet_in_a_folder(made, tmp_path):
    say(made.folder, "s16", fault="hangs")
    packer = start(made, tmp_path / "p")
    wait_for(made.folder / "hanging")
    before = {path.name: path.read_bytes() for path in parts_in(tmp_path / "p")}
    with pytest.raises(ValueError, match="another run is at work in it: process"):
        packed(made, tmp_path / "p")
    assert {path.name: path.read_bytes() for path in parts_in(tmp_path / "p")} == before
    os.killpg(packer.pid, signal.SIGKILL)
    packer.wait()
    say(made.folder, "s16")
    packed(made, tmp_path / "p")
    check(tmp_path / "p", made)
    with taken(tmp_path / "p"):  # as a notebook's stage holds it
        packed(made, tmp_path / "p")
        assert is_held(tmp_path / "p")
    assert not is_held(tmp_path / "p")


def command(made: Made, folder: Path) -> list[str]:
    lines = (
        "from pathlib import Path",
        "from test_packed_folder import Made, packed",
        f"packed(Made(Path({str(made.folder)!r})), Path({str(folder)!r}))",
    )
    return [sys.executable, "-c", "\n".join(lines)]


def start(made: Made, folder: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent}"}
    return subprocess.Popen(command(made, folder), start_new_session=True, env=environment)


def wait_for(path: Path, *, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.05)


def test_packers_killed_between_parts_and_resumed_lose_no_part(made, tmp_path):
    """Killed as slide after slide hangs: what was whole by then is kept, and what was not is packed."""
    for slide_id in ("s11", "s4"):
        say(made.folder, slide_id, fault="hangs")
        (made.folder / "hanging").unlink(missing_ok=True)
        packer = start(made, tmp_path / "p")
        wait_for(made.folder / "hanging")
        os.killpg(packer.pid, signal.SIGKILL)
        packer.wait()
        whole = {path.name: path.read_bytes() for path in parts_in(tmp_path / "p")}
        for name in whole:
            with h5py.File(tmp_path / "p" / name) as file:
                assert file["offsets"][-1] == len(file["features"])
        say(made.folder, slide_id)
    packed(made, tmp_path / "p")
    assert whole.items() <= {path.name: path.read_bytes() for path in parts_in(tmp_path / "p")}.items()
    check(tmp_path / "p", made)


@pytest.fixture
def cohort(made, tmp_path, monkeypatch):
    """A manifest of a packed folder's slides, of one with a file of its own, and of one without features."""
    monkeypatch.delenv("DATA_ROOT", raising=False)
    packed(made, tmp_path / "p")
    write_features(tmp_path / "own.h5", make_bag("own", made.read("s2").x, None, {}), {})
    rows = [{"slide_id": s, "feature_path": "p"} for s in SLIDES]
    rows += [{"slide_id": "own", "feature_path": "own.h5"}, {"slide_id": "absent", "feature_path": "p"}]
    return read_manifest(write_manifest(tmp_path / "m.csv", rows))


def test_a_manifest_names_the_folder_and_so_does_features(made, tmp_path, cohort):
    bags = load_bags(cohort, None, [*SLIDES, "own"], most_tiles=4)
    plain = load_bags(read_manifest(bare(tmp_path)), tmp_path / "p", SLIDES, most_tiles=4)
    for slide_id in SLIDES:
        wanted = linspace_cap(made.read(slide_id), 4)
        for some in (bags, plain):
            assert n_tiles(some, slide_id) == len(wanted.x)
            assert some[slide_id].x.tobytes() == wanted.x.tobytes() and some[slide_id].slide_id == slide_id
    assert len(bags["own"].x) == 4
    assert [*load_available_bags(cohort, None, ["absent", "own", "s3"])] == ["own", "s3"]
    assert read_bag(tmp_path / "p", "s3").x.tobytes() == made.read("s3").x.tobytes() and is_packed(tmp_path / "p")
    every = open_features(tmp_path / "p")
    assert [*every] == sorted(SLIDES) and every.n_tiles("s16") == len(made.read("s16").x)
    assert len(open_features(tmp_path / "m.csv")) == 18
    with pytest.raises(ValueError, match="is a folder or a device; expected a feature file, or a folder of 21_pack"):
        read_bag(made.folder, "s3")


def bare(folder: Path) -> Path:
    return write_manifest(folder / "bare.csv", [{"slide_id": slide_id} for slide_id in SLIDES])


def test_a_folder_that_grew_is_looked_at_again(made, tmp_path):
    packed(made, tmp_path / "p", SLIDES[:3])
    assert is_packed(tmp_path / "p") and len(describe(tmp_path / "p")) == 3
    packed(made, tmp_path / "p", SLIDES[:5])
    assert [d.slide_id for d in describe(tmp_path / "p")] == SLIDES[:5]
    assert read_bag(tmp_path / "p", "s4").x.tobytes() == made.read("s4").x.tobytes()


def test_a_packed_folder_is_found_as_one_store(made, tmp_path):
    packed(made, tmp_path / "all" / "p")
    say(made.folder, "s4", seed=7, n=3)
    packed(made, tmp_path / "all" / "p")
    for root in (tmp_path / "all", tmp_path / "all" / "p"):
        found = find([root])
        assert sorted(f.slide_id for f in found.features) == sorted(SLIDES) and not found.faults
        assert {(f.path, f.width) for f in found.features} == {(tmp_path / "all" / "p", D)}
        assert {f.slide_id: f.n for f in found.features}["s4"] == 3


def test_what_a_manifest_names_is_packed_whatever_wrote_it(made, tmp_path, cohort):
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file.create_dataset("features", data=made.read("s9").x, chunks=(1, D))
        file["coords"] = made.read("s9").coords
    rows = [{"slide_id": "s9", "feature_path": "rows.h5"}, {"slide_id": "own", "feature_path": "own.h5"}]
    rows += [{"slide_id": "s3", "feature_path": "p"}, {"slide_id": "none", "feature_path": ""}]
    path = write_manifest(tmp_path / "some.csv", rows)
    ids = slides_with_features(read_manifest(path), None)
    assert ids == ["s9", "own", "s3"]

    def again(run: str, most: int = 0):
        packed(ManifestSources(path, None, most, run), tmp_path / "q", ids, recipe=f"{most}")
        return PackedFolder(tmp_path / "q")

    first = again("1")
    for slide_id, source in {"s9": "s9", "own": "s2", "s3": "s3"}.items():
        assert first.read(slide_id).x.tobytes() == made.read(source).x.tobytes()
    parts = len(parts_in(tmp_path / "q"))
    assert {s: r.source for s, r in again("2").rows.items()} == {s: r.source for s, r in first.rows.items()}
    assert len(parts_in(tmp_path / "q")) == parts
    with h5py.File(tmp_path / "rows.h5", "r+") as file:
        file["features"][:] = 2 * made.read("s9").x
    assert again("3").read("s9").x.tobytes() == (2 * made.read("s9").x).tobytes()
    assert len(parts_in(tmp_path / "q")) == parts + 2
    assert again("4", most=2).n_tiles("s9") == 2


def test_the_parts_of_a_run_say_what_they_were_packed_by(made, tmp_path):
    packed(made, tmp_path / "p")
    for part in parts_in(tmp_path / "p"):
        with h5py.File(part) as file:
            assert file.attrs["schema"] == packing.PART_SCHEMA and file.attrs["recipe_hash"] == "r"
            slides = file["slide_id"].asstr()[:].tolist()
            assert file["source"].asstr()[:].tolist() == [made.identity(slide_id) for slide_id in slides]
            assert file["features"].chunks is None and file["features"].dtype == np.float16
    assert all(re.fullmatch(r"part_\d{6}_[0-9a-f]{8}\.h5", path.name) for path in parts_in(tmp_path / "p"))
