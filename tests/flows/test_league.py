"""The league: which methods, how long the bags, and every method's own recipe, as many trials each."""

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from flows import league
from slidesieve.compressors.registry import COMPRESSORS, WITHOUT_K


def test_every_method_takes_part_and_none_reads_a_long_bag_whole():
    assert sorted(league.arms(156)) == sorted(COMPRESSORS)
    assert set(league.arms(1000)) == set(COMPRESSORS) - {"all"}


def test_long_bags_are_placed_where_places_are_told_apart_and_read_by_what_has_learnt_on_short_ones():
    for trials, short in ((False, "store/mosaics/156"), (True, "store/mosaics/156_s1")):
        words = league.settings_of(("kmeans",), tokens=4000, trials=trials)
        learnt = "40_align_captions/all.manifest", "40_align_captions/all.captions"
        tables = f"{short}/manifest.csv", f"{short}/questions.csv"
        assert {"position_ids=scaled", *(f"{k}={v}" for k, v in zip(learnt, tables, strict=True))} <= set(words)
    assert not [w for w in league.settings_of(("kmeans",), tokens=156, trials=False) if w.startswith("position")]


def test_trials_are_asked_about_validation_bags_of_another_seed_and_the_same_split(tmp_path):
    assert "60.answered_split=val" in league.settings_of(("kmeans",), tokens=156, trials=True)
    (tmp_path / "A.h5").touch()
    how = {"tokens": 156, "made_here": True}
    own, tried = (league.ingredients(tmp_path, "", "oncotree_code", seed=seed, **how) for seed in (0, 1))
    assert own[0].out_dir != tried[0].out_dir and own[1] == tried[1]
    assert {"split_seed"} & {*own[0].parameters, *tried[0].parameters} == set()
    assert tried[0].parameters["seed"] == 1 and tried[0].parameters["subtype"] == ""
    long = league.ingredients(tmp_path, "", "oncotree_code", seed=1, tokens=1000, made_here=False)
    assert [stage.out_dir for stage in long] == ["store/mosaics/1000_s1", tried[0].out_dir]


def scores(path, **right: tuple[float, ...]):
    rows = [
        (name + recipe, 8, 0, "all", value)
        for name, values in right.items()
        for recipe, value in zip(league.TRIALS, values, strict=False)
    ]
    pd.DataFrame(rows, columns=["method", "k", "seed", "group", "accuracy"]).to_csv(path, index=False)
    return path


def test_each_method_gets_the_recipe_that_did_best(tmp_path):
    path = scores(tmp_path / "s.csv", kmeans=(0.5, 0.6), fps=(0.5, 0.5), text_only=(0.2, 0.3))
    words = league.recipes(("kmeans", "fps", "text_only"), path)
    faster = league.TRIALS[1].split(":")[1:]
    assert words == (
        *(f"40_align_captions/kmeans.{change}" for change in faster),
        *(f"50_tune_answers/kmeans.{change}" for change in faster),
        *(f"50_tune_answers/text_only.{change}" for change in faster),
    )
    assert "text_only" in WITHOUT_K


def test_a_method_tried_less_often_than_the_others_is_refused(tmp_path):
    path = scores(tmp_path / "s.csv", kmeans=(0.5, 0.6), fps=(0.5,))
    with pytest.raises(ValueError, match="fps was tried 1 times of 2"):
        league.recipes(("kmeans", "fps"), path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tokens", "157"], "156, 1000, 4000"),
        (["--tokens", "156"], "no .h5 file"),
        (["--compressors", "kmaens"], "did you mean"),
        (["--tuned", "none.csv"], "not found; expected the over_seeds.csv"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_runs(tmp_path, words, told):
    app = typer.Typer()
    app.command()(league.main)
    result = CliRunner().invoke(app, ["--stores", str(tmp_path), "--out", str(tmp_path / "out"), *words])
    assert result.exit_code == 2 and told in result.output
    assert not (tmp_path / "out").exists()
