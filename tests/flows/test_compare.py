"""`slidesieve compare`: one page and two tables, in a folder of its own; experiments are left as they are."""

import csv
import re
import shutil

import pytest
from fake_experiments import METHODS, write_experiment
from typer.testing import CliRunner

from flows import cli
from slidesieve.provenance.files import MARK, files_under


def compare(*words):
    return CliRunner().invoke(cli.app, ["compare", *map(str, words), "--draws", "300"])


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home") / "lab"
    write_experiment(folder / "w1", day=1, lr=0.001)
    write_experiment(folder / "w2", day=8, lr=0.01, methods=METHODS | {"sparselearn": (7, 0.99), "a<b>": (7, 0.5)})
    write_experiment(folder / "other", day=9, n_slides=75)
    shutil.copytree(folder / "w1", folder / "broken")
    (folder / "broken/80_compare_methods/over_seeds.csv").write_text("")
    return folder


def test_a_folder_gets_what_moved_first_and_a_row_an_experiment_and_method(lab, tmp_path):
    before = {name: (lab / name).stat().st_mtime_ns for name in files_under(lab)}
    told = compare(lab, "--out", tmp_path / "out")
    assert told.exit_code == 0, told.output
    assert sorted(files_under(tmp_path / "out")) == ["compare.csv", "compare.html", "runs.csv"]
    assert {name: (lab / name).stat().st_mtime_ns for name in files_under(lab)} == before
    runs = rows_of(tmp_path / "out/runs.csv")
    assert [row["experiment"] for row in runs] == ["w1"] * 3 + ["w2"] * 4 + ["other"] * 3
    moved = next(row for row in runs if (row["experiment"], row["method"]) == ("w2", "sparselearn"))
    page = (tmp_path / "out/compare.html").read_text()
    points = f"{100 * float(moved['difference']):+.1f}"
    assert page.index("What moved since last time") < page.index(points) < page.index("Settings that differ")
    assert (
        "not read: broken: 80_compare_methods/over_seeds.csv: changed" in told.stdout and "broken: 80_compare" in page
    )
    assert f"{points} points" in told.stdout and told.stdout.splitlines()[-1].endswith("compare.html")
    assert "a&lt;b&gt;" in page and "<b>" not in page
    assert not re.search(r"(src|href)=\"(?!compare\.csv|runs\.csv)", page) and str(lab.parent) not in page


def test_named_experiments_are_compared_with_the_first_and_what_may_not_be_is_refused(lab, tmp_path):
    words = (lab / "w1", lab / "w2", lab / "other", "--out", tmp_path / "out")
    assert compare(*words).exit_code == 0
    table = rows_of(tmp_path / "out/compare.csv")
    assert {(row["before"], row["experiment"]) for row in table} == {("w1", "w2"), ("w1", "other")}
    refused = [row for row in table if row["experiment"] == "other"]
    assert all("two benchmarks" in row["refused"] and row["difference"] == row["verdict"] == "" for row in refused)
    page = (tmp_path / "out/compare.html").read_text()
    assert "lr" in page and "Not compared: SparseLearn (k = 7), random (k = 7), text only: they are of two" in page
    more = compare(*words[:2], "--pair", "random,sparselearn", "--out", tmp_path / "out")
    assert more.exit_code == 0 and "is above random (k = 7) of w1" in more.stdout
    assert {row["experiment"] for row in rows_of(tmp_path / "out/compare.csv")} == {"w2"}  # ours is written anew


def test_one_experiment_alone_is_shown_with_nothing_beside_it(lab, tmp_path):
    told = compare(lab / "w1", "--out", tmp_path / "out")
    assert told.exit_code == 0 and "Nothing stands before it on these questions" in told.stdout
    assert rows_of(tmp_path / "out/compare.csv") == [] and len(rows_of(tmp_path / "out/runs.csv")) == 3
    assert "nothing to compare with yet" in (tmp_path / "out/compare.html").read_text()


@pytest.mark.parametrize("words", [("nowhere",), ("w1", "w2", "--pair", "random"), ("w1", "w2", "--pair", "random,x")])
def test_a_wrong_word_ends_with_a_line_and_writes_nothing(lab, tmp_path, words):
    places = [word if word.startswith("-") or "random" in word else lab / word for word in words]
    told = compare(*places, "--out", tmp_path / "out")
    assert told.exit_code == 2 and told.stdout.startswith("error: ")
    assert not (tmp_path / "out").exists() or files_under(tmp_path / "out") == []


def test_a_folder_of_others_is_refused_and_left_as_it_is(lab, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    told = compare(lab / "w1", lab / "w2", "--out", tmp_path / "out")
    assert told.exit_code == 2 and "holds what slidesieve did not write: mine.txt" in told.stdout
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    assert compare(lab / "w1", lab / "w2", "--out", lab / "w1").exit_code == 2 and not (lab / "w1" / MARK).exists()
