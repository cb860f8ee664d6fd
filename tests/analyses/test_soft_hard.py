"""Soft against hard selection: mass at the temperature's ends, paths that must coincide, agreements by hand."""

import itertools
import tomllib

import jinja2
import numpy as np
import pandas as pd
import pytest
import torch
from run_here import run_here

from slidesieve.analyses import gate_mass, sentences, soft_hard
from slidesieve.analyses.gate_mass import along_training, mass_against_tau, read_training
from slidesieve.analyses.leak import half_skill
from slidesieve.analyses.soft_hard import agreement, answer_paths, kept_agreement, path_scores, random_jaccard
from slidesieve.answers.answering import answer
from slidesieve.answers.select import select
from slidesieve.cohort.manifest import COLUMNS as MANIFEST_COLUMNS
from slidesieve.compressors.sparselearn import SparseLearn
from slidesieve.datasets.questions import COLUMNS, Question
from slidesieve.evaluation.stats import unspread
from slidesieve.features.bag import make_bag
from slidesieve.features.store import write_packed
from slidesieve.models.checkpoints import build_vlm, save_model
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.receipts import NOTEBOOK_VARIABLE
from slidesieve.synthetic.language import build_lm, build_tokenizer

K, D = 7, 33
SIZES = (75, 41, 9, 5)
CASES = {"s": "p", **{f"s{i}": f"p{i}" for i in range(len(SIZES))}}
HOW = {"answer_form": "text", "batch_tokens": 90}
NOTEBOOK = ROOT / "notebooks/72_soft_to_hard.ipynb"


def said(sentence: str, **about) -> str:
    """A sentence of the notebook's template, its no-break spaces as plain ones."""
    return sentences.fill(NOTEBOOK.with_suffix(".md.j2"), sentence, **about).replace("\N{NO-BREAK SPACE}", " ")


def scores_of(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(1, n)).astype(np.float32))


# --- mass on the kept tiles


def naive_mass(scores: np.ndarray, k: int, tau: float) -> float:
    """Bisect the threshold of the Laplace CDF until the weights sum to k; add up those of the k highest scores."""
    z = (scores - scores.mean()) / scores.std() / tau
    low, high = z.min() - 50, z.max() + 50
    for _ in range(200):
        b = (low + high) / 2
        alpha = [0.5 * np.exp(u) if u <= 0 else 1 - 0.5 * np.exp(-u) for u in z - b]
        low, high = (b, high) if sum(alpha) > k else (low, b)
    return float(sum(alpha[i] for i in np.argsort(-scores)[:k]) / k)


@pytest.mark.parametrize("tau", [2.0, 0.3, 0.05])
def test_mass_by_bisection(tau):
    scores = {f"s{n}": scores_of(n, seed=n)[0].numpy() for n in (75, 41)}
    mass = {n: naive_mass(scores[f"s{n}"].astype(float), K, tau) for n in (75, 41)}
    row = mass_against_tau(scores, k=K, taus=[tau]).iloc[0]
    assert row["mass"] == pytest.approx((mass[75] + mass[41]) / 2, abs=1e-4)
    assert row["left_out"] == pytest.approx(np.mean([K * (1 - mass[n]) / (n - K) for n in (75, 41)]), abs=1e-5)


def test_mass_is_an_even_spread_when_hot_and_everything_when_cold():
    scores = {f"s{n}": scores_of(n, seed=n)[0].numpy() for n in (75, 131, 41)}
    table = mass_against_tau(scores, k=K, taus=[1e4, 2.0, 0.5, 0.1, 0.02, 1e-4])
    even = np.mean([K / n for n in (75, 131, 41)])
    assert table["chance"].tolist() == pytest.approx([even] * 6)
    assert table["mass"].iloc[0] == pytest.approx(even, abs=1e-3)
    assert table["mass"].iloc[-1] == pytest.approx(1, abs=1e-3) and table["left_out"].iloc[-1] < 1e-4
    assert table["mass"].is_monotonic_increasing and table["mass"].between(even, 1).all()
    assert (table["low"] <= table["mass"]).all() and (table["mass"] <= table["high"]).all()


def test_slides_of_at_most_k_tiles_have_no_gate():
    short = {"a": scores_of(K)[0].numpy()}
    with pytest.raises(ValueError, match="got slides of at most 7 tiles; expected one of more than k = 7"):
        mass_against_tau(short, k=K, taus=[1.0])
    assert mass_against_tau(short | {"b": scores_of(41)[0].numpy()}, k=K, taus=[1.0])["n_slides"].item() == 1


# --- training histories


def write_history(folder, columns):
    folder.mkdir()
    pd.DataFrame({"step": range(6), "loss": 1.0, "lr": 0.1} | columns).to_csv(folder / "history.csv", index=False)
    return folder


def test_histories_with_and_without_the_soft_path(tmp_path):
    never = float("nan")
    taken = {"score": [never, 0.25, never, 0.5, never, 0.75]}
    old = write_history(tmp_path / "old", taken)
    soft = {"soft_score": [never, 0.5, never, 0.5, never, 0.75], "mass": [never, 0.125, never, 0.5, never, 0.875]}
    new = write_history(tmp_path / "new", taken | soft | {"tau": [never, 1.0, never, 0.5, never, 0.1]})
    log = read_training({"captions": old, "none": None, "questions": new})
    assert log["step"].tolist() == [2, 4, 6] * 2 and log["hard"].tolist() == [0.25, 0.5, 0.75] * 2
    assert log[["soft", "mass", "tau"]].isna().all(axis=1).tolist() == [True] * 3 + [False] * 3
    captions, questions = along_training(log)
    assert (captions.name, questions.name) == ("captions", "questions")
    assert np.isnan([captions.gap, captions.step]).all()
    assert (questions.first.tau, questions.last.mass, questions.gap, questions.step) == (1.0, 0.875, 0.25, 2)
    text = said("training", stages=[captions, questions])
    assert "Captions end with the hard path at 75.0 %" in text and "not recorded along captions," in text
    assert "run this stage again." in text
    assert "along captions and captions, so" in said("training", stages=[captions, captions])
    assert said("training", stages=[captions, captions]).endswith("missing: run these stages again.")
    assert "never more than 25.0 points apart (step 2)" in text
    assert "from 12.5 % to 87.5 % and the temperature from 1.00 to 0.10" in text
    alone = said("training", stages=[questions])
    assert "not recorded" not in alone and alone.endswith("to 0.10.")
    constant = along_training(log.assign(tau=0.1))[1:]
    assert said("training", stages=constant).endswith("to 87.5 % at a temperature of 0.10.")
    (tmp_path / "new" / "history.csv").unlink()
    with pytest.raises(ValueError, match=r"no history\.csv; expected the folder of a training stage"):
        read_training({"questions": new})


# --- paths


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    tokenizer = build_tokenizer()
    build_lm(tokenizer, width=24, layers=2, heads=3, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def cohort():
    rng, bags, questions = np.random.default_rng(0), {}, []
    for i, n in enumerate(SIZES):
        bags[f"s{i}"] = make_bag(f"s{i}", rng.normal(size=(n, D)), None, {})
        for j in range(3):
            options = tuple(rng.permutation(["cyst", "abscess", "necrosis", "thrombus"]).tolist())
            questions.append(Question(f"q{i}{j}", f"s{i}", "finding", "Evidence", "Which finding?", options, j))
    return bags, questions


def build(lm, compressor="sparselearn", seed=1, **options):
    options = {"scorer_heads": 3, "scorer_width": 12, "tau": 0.5} | options if compressor == "sparselearn" else {}
    model = build_vlm(lm, compressor, d=D, k=K, seed=seed, options=options, projector_width=19).eval()
    if getattr(model.compressor, "denoiser", None) is not None and seed > 1:
        for parameter in model.compressor.denoiser.parameters():
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    return model


def passed(model, bags, seed=3):
    """Tokens of the soft path of the longest slide."""
    x = torch.from_numpy(bags["s0"].x)[None]
    coords, mask = torch.zeros(1, len(bags["s0"].x), 2, dtype=torch.long), torch.ones(1, x.shape[1], dtype=torch.bool)
    return model.compressor.train()(x, coords, mask, torch.Generator().manual_seed(seed)).tokens


def test_bypassing_leaves_the_gate_alone_and_is_undone_even_after_an_error(lm, cohort):
    with_denoiser = build(lm, seed=2)
    without = build(lm, seed=2, denoiser="off")
    without.compressor.load_state_dict(with_denoiser.compressor.state_dict(), strict=False)
    denoiser = with_denoiser.compressor.denoiser
    with pytest.raises(RuntimeError), soft_hard.denoiser_bypassed(with_denoiser.compressor):
        assert torch.equal(passed(with_denoiser, cohort[0]), passed(without, cohort[0]))
        raise RuntimeError
    assert with_denoiser.compressor.denoiser is denoiser
    assert not torch.allclose(passed(with_denoiser, cohort[0]), passed(without, cohort[0]))


def test_denoising_kept_tiles_is_the_denoiser_on_them_and_is_undone_even_after_an_error(lm, cohort):
    compressor = build(lm, seed=2).compressor.eval()
    x, mask = torch.from_numpy(cohort[0]["s0"].x)[None], torch.ones(1, 75, dtype=torch.bool)
    coords = torch.zeros(1, 75, 2, dtype=torch.long)
    plain = compressor(x, coords, mask)
    with pytest.raises(RuntimeError), soft_hard.kept_denoised(compressor):
        changed = compressor(x, coords, mask)
        assert torch.equal(changed.tokens, compressor.denoiser(plain.tokens))
        assert torch.equal(changed.positions, plain.positions)
        raise RuntimeError
    assert torch.equal(compressor(x, coords, mask).tokens, plain.tokens)


def test_a_fresh_denoiser_changes_no_answer(lm, cohort):
    """It begins as the identity, so that paths with and without it must coincide."""
    bags, questions = cohort
    how = HOW | {"noise_draws": 2, "seed": 5}
    paths = dict(list(answer_paths(build(lm), questions, bags, **how).groupby("path")))
    assert set(paths) == {"hard", "hard_denoised", "soft", "soft_bypassed"}
    for a, b in (("hard", "hard_denoised"), ("soft", "soft_bypassed")):
        assert paths[a]["predicted"].tolist() == paths[b]["predicted"].tolist()
    again = answer(build(lm), questions, bags, **HOW)
    assert paths["hard"].set_index("ID")["predicted"].to_dict() == again.set_index("ID")["predicted"].to_dict()
    noisy = answer(build(lm), questions, bags, seed=6, **HOW).set_index("ID")["predicted"].to_dict()
    second = paths["soft"][paths["soft"]["draw"] == 1]
    assert second.set_index("ID")["predicted"].to_dict() == noisy


def test_a_slide_without_features_counts_as_wrong_on_every_path(lm, cohort):
    bags, questions = cohort
    part = {slide: bag for slide, bag in bags.items() if slide != "s1"}
    answers = answer_paths(build(lm), questions, part, noise_draws=1, seed=0, **HOW)
    assert not answers.loc[answers["Slide"] == "s1", "correct"].any()
    assert (answers.groupby("path").size() == len(questions)).all()


def test_without_a_denoiser_there_are_two_paths(lm, cohort):
    bags, questions = cohort
    answers = answer_paths(build(lm, denoiser="off"), questions, bags, noise_draws=1, seed=0, **HOW)
    assert answers["path"].unique().tolist() == ["hard", "soft"]
    scored = path_scores(answers, CASES, draws=20, seed=0)
    assert list(zip(scored["path"], scored["minus"], strict=True)) == [("hard", ""), ("soft", ""), ("soft", "hard")]


def test_methods_without_a_scorer_are_refused(lm, cohort):
    with pytest.raises(ValueError, match="mean does not score tiles; expected a selector"):
        answer_paths(build(lm, "mean"), cohort[1], cohort[0], noise_draws=1, seed=0, **HOW)


def test_scores_are_the_scorers_and_ignore_padding(lm, cohort):
    model = build(lm)
    scores = gate_mass.tile_scores(model, cohort[0], batch_tokens=90)
    for slide, (kept, best) in select(model, cohort[0], batch_tokens=90).items():
        assert scores[slide].shape == (len(cohort[0][slide].x),)
        assert scores[slide][kept] == pytest.approx(best, abs=1e-4)


# --- agreement


def table(rows):
    """Answers from (path, draw, ID, predicted), all on slide s, right where they say A."""
    answers = pd.DataFrame(rows, columns=["path", "draw", "ID", "predicted"]).assign(Slide="s")
    return answers.assign(correct=answers["predicted"] == "A")


def test_agreement_and_scores_by_hand():
    """Question 1: A, A, B over three draws, hard A. Question 2: always C. Pairs that agree: 1 of 3, 3 of 3."""
    said = [("soft", d, "1", p) for d, p in enumerate("AAB")] + [("soft", d, "2", "C") for d in range(3)]
    answers = table([*said, ("hard", 0, "1", "A"), ("hard", 0, "2", "C")])
    found = agreement(answers, CASES, draws=10, seed=0).set_index("compared")["value"]
    assert found["two draws of noise"] == pytest.approx(4 / 6)
    assert found["all 3 draws of noise"] == 1 / 2
    assert found["soft and hard"] == pytest.approx(5 / 6)
    scored = path_scores(answers, CASES, draws=10, seed=0).set_index(["path", "minus"])
    assert scored.loc[("soft", ""), ["value", "lowest", "highest"]].tolist() == pytest.approx([2 / 6, 0, 1 / 2])
    assert scored.loc[("soft", "hard"), ["value", "lowest", "highest"]].tolist() == pytest.approx([-1 / 6, -1 / 2, 0])
    assert scored["n_questions"].unique().tolist() == [2] and scored["n_slides"].unique().tolist() == [1]


def test_random_jaccard_by_enumeration():
    n, i, j = 7, 3, 2
    index = [
        len(set(a) & set(b)) / len(set(a) | set(b))
        for a in itertools.combinations(range(n), i)
        for b in itertools.combinations(range(n), j)
    ]
    assert random_jaccard(n, i, j) == pytest.approx(np.mean(index))
    assert random_jaccard(5, 5, 5) == pytest.approx(1)


def test_kept_sets_of_one_checkpoint_twice_are_the_same_and_of_other_seeds_near_chance(lm, cohort):
    bags, _ = cohort
    one, other = (
        {s: kept for s, (kept, _) in select(build(lm, seed=i), bags, batch_tokens=90).items()} for i in (1, 4)
    )
    same = kept_agreement([one, one], bags, CASES, draws=50, seed=0)
    certain = unspread(1.0, len({CASES[slide] for slide in bags}), least=0.0)
    assert tuple(same[["value", "ci_low", "ci_high"]].iloc[0]) == pytest.approx(certain)
    apart = kept_agreement([one, other], bags, CASES, draws=50, seed=0)
    chances = [random_jaccard(n, min(K, n), min(K, n)) for n in SIZES]
    assert apart["chance"].item() == pytest.approx(np.mean(chances))
    pairs = [len(set(one[s]) & set(other[s])) / len(set(one[s]) | set(other[s])) for s in bags]
    assert apart["value"].item() == pytest.approx(np.mean(pairs)) and apart["value"].item() < 1
    assert kept_agreement([one], bags, CASES, draws=50, seed=0).empty


# --- what is said


def test_the_filters_say_shares_and_differences_and_name_rows():
    shares = {0: "0", 0.00123: "0.12", 0.0078: "0.78", 0.03: "3.0", 0.125: "12.5", 2 / 3: "66.7", 1: "100"}
    assert [sentences.percent(share) for share in shares] == [f"{text}\N{NO-BREAK SPACE}%" for text in shares.values()]
    assert [sentences.points(by) for by in (-0.0394, 0.0, 0.125)] == ["-3.9", "+0.0", "+12.5"]
    rows = pd.DataFrame({"a": ["x", "x", "y"], "b": ["p", "q", "q"], "value": [1.0, 2.0, 4.0]})
    assert sentences.by(rows, "a", "b")["x", "q"] == {"value": 2.0}
    assert sentences.by(rows.iloc[1:], "a") == {"x": {"b": "q", "value": 2.0}, "y": {"b": "q", "value": 4.0}}
    with pytest.raises(ValueError, match="unique"):
        sentences.by(rows, "a")


def test_a_template_s_line_ends_are_spaces_and_none_stands_before_a_mark(tmp_path):
    template = tmp_path / "x.md.j2"
    words = "**A.**\n  {{ share | percent }} of n\n{% if low is known %}\n(at\nleast)\n{% endif %}\n; done\n."
    template.write_text(f"{{% macro a(share, low) %}}{words}{{% endmacro %}}")
    assert sentences.fill(template, "a", share=0.5, low=0.1) == "**A.** 50.0\N{NO-BREAK SPACE}% of n (at least); done."
    assert sentences.fill(template, "a", share=0.5, low=np.nan) == "**A.** 50.0\N{NO-BREAK SPACE}% of n; done."
    with pytest.raises(jinja2.UndefinedError, match="parameter 'share' was not provided"):
        sentences.fill(template, "a")
    with pytest.raises(TypeError, match="no keyword argument 'shares'"):
        sentences.fill(template, "a", share=0.5, shares=0.5)


def test_a_template_lies_beside_its_notebook_wherever_that_is_and_is_installed_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(NOTEBOOK_VARIABLE, raising=False)
    assert sentences.beside(NOTEBOOK.stem) == NOTEBOOK.with_suffix(".md.j2")
    monkeypatch.setenv(NOTEBOOK_VARIABLE, str(tmp_path / "72_mine.ipynb"))
    with pytest.raises(ValueError, match=r"72_mine: no template .*72_mine\.md\.j2; expected it beside the notebook"):
        sentences.beside("72_mine")
    (tmp_path / "72_mine.md.j2").touch()
    assert sentences.beside("72_mine") == tmp_path / "72_mine.md.j2"
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert any(sentences.beside(NOTEBOOK.stem).match(p) for p in shipped["flows.notebooks"])


PATHS = {("hard", ""): 0.75, ("soft", ""): 0.5, ("soft", "hard"): -0.25}
MORE_PATHS = {("soft_bypassed", "soft"): 0.125, ("hard_denoised", "hard"): -0.0625}


def scored(paths):
    rows = [(*name, value, value - 0.1, value + 0.1) for name, value in paths.items()]
    table = pd.DataFrame(rows, columns=["path", "minus", "value", "ci_low", "ci_high"])
    return table.assign(n_questions=33, n_slides=17)


def agreed(**rows):
    columns = ["compared", "value", "chance"]
    return pd.DataFrame([(name.replace("_", " "), *row) for name, row in rows.items()], columns=columns)


def test_paths_are_said_with_their_differences_and_what_chance_changes():
    few = agreed(soft_and_hard=(0.5, np.nan))
    assert said("paths", scores=scored(PATHS), agreed=few, mass=0.645) == (
        "**On the test slides.** On 17 test slides the model answers 75.0 % of 33 questions correctly from the tiles "
        "it keeps and 50.0 % from all tiles through the noisy gate, a difference of -25.0 points (-35.0 to -15.0), as "
        "all here with 95 % intervals; 64.5 % of the gate's weight lies on the tiles kept."
    )
    ten = said("paths", scores=scored(PATHS).assign(n_questions=10), agreed=few, mass=0.645)
    assert ten.startswith("**On the test slides, too few to tell.** On 17")
    more = agreed(two_draws_of_noise=(0.75, np.nan), training_seeds=(0.375, 0.125))
    assert said("paths", scores=scored(PATHS | MORE_PATHS), agreed=more, mass=0.645).endswith(
        "intervals; without its denoiser the noisy path changes by +12.5 points (+2.5 to +22.5), with it the kept "
        "tiles' by -6.2 points (-16.2 to +3.8); 64.5 % of the gate's weight lies on the tiles kept, 25.0 % of the "
        "noisy path's answers change from draw to draw, and models of different training seeds share 37.5 % of their "
        "kept tiles (Jaccard index; 12.5 % by chance)."
    )


def leak_table():
    """Two tasks at two widths: shares of the narrow one are never said."""
    rows = [
        (task, d, alpha, share if d == 33 else 0.99, 0.25, share)
        for task in ("probe", "identification")
        for d in (7, 33)
        for alpha, share in ((0.0, 0.0), (0.04, 0.2), (0.25, 0.5), (1.0, 1.0))
    ]
    table = pd.DataFrame(rows, columns=["task", "d", "alpha", "share", "chance", "skill"])
    return table.assign(n_tiles=75, apart=6.0, participation_ratio=4.6, expected=0.0078, expected_rank=0.15)


def test_the_leak_is_said_of_the_widest_features_at_the_nearest_alpha():
    at = soft_hard.leak_at(leak_table(), 0.03)
    assert at.keys() == {"probe", "identification"}
    assert [at["probe"][name] for name in ("d", "alpha", "share", "untouched")] == [33, 0.04, 0.2, 1.0]
    probe = leak_table().query("task == 'probe' and d == 33")
    assert at["probe"]["half"] == half_skill(probe) == pytest.approx(0.25)
    assert at["probe"]["half_snr"] == pytest.approx(np.sqrt(0.25 / 0.75) * 6)
    found = (
        "20.0 % of a slide's 75 tiles are still recognised one by one (guessing 25.0 %; d = 33; theory 0.78 % for as "
        "many independent features, 15.0 % for their participation ratio of 5); this model lets pass 2.4 %, on "
        "average, of a tile that it leaves out."
    )
    begun = "**The leak.** When 4.0 % of a tile passes the gate and the rest is noise,"
    assert said("leak", at=at, n_classes=4, left_out=0.024) == (
        f"{begun} a linear probe reads which of 4 classes it is in 20.0 % of cases (untouched 100 %, guessing "
        f"25.0 %; d = 33; half of that skill is left at 25.0 %, a signal-to-noise ratio of 3.5), and {found}"
    )
    alone = soft_hard.leak_at(leak_table().query("task != 'probe'"), 0.03)
    assert said("leak", at=alone, n_classes=0, left_out=0.024) == f"{begun} {found}"


def test_the_probe_s_classes_come_from_stores_else_from_the_truth_else_there_are_none(tmp_path):
    rng, how = np.random.default_rng(0), {"most": 21, "seed": 0}
    coords = np.array([(i % 5, i // 5) for i in range(75)], dtype=np.int64)
    bags = [{s: make_bag(s, rng.normal(size=(75, D)), coords, {})} for s in ("a", "b")]
    names = ["cyst" if i % 2 else "scar" for i in range(75)]
    truth = pd.DataFrame([(s, *coords[i], "finding", names[i]) for s in "ab" for i in range(75)])
    truth.set_axis(["slide_id", "x_px0", "y_px0", "kind", "name"], axis=1).to_csv(tmp_path / "truth.csv", index=False)
    known = soft_hard.probe_classes([], tmp_path / "truth.csv", *bags, **how)
    assert known.names == ["cyst", "scar"] and set(known.train.slide) == {"a"} and set(known.test.slide) == {"b"}
    for name in ("lung", "skin"):
        write_packed(tmp_path / f"{name}.h5", [*bags[0].values(), *bags[1].values()])
    stores = [tmp_path / f"{name}.h5" for name in ("lung", "skin")]
    assert soft_hard.probe_classes(stores, tmp_path / "truth.csv", *bags, **how).names == ["lung", "skin"]
    assert soft_hard.probe_classes([], None, *bags, **how) is None


# --- the notebook


def test_the_notebook_answers_in_three_sentences_without_truth_or_other_seeds(lm, tmp_path):
    rng, names = np.random.default_rng(0), [f"s{i}" for i in range(6)]
    write_packed(tmp_path / "store.h5", [make_bag(s, rng.normal(size=(41, D)), None, {}) for s in names])
    manifest = pd.DataFrame("", index=range(6), columns=list(MANIFEST_COLUMNS))
    manifest = manifest.assign(slide_id=names, case_id=names, feature_path="store.h5", split="test")
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    asked = [
        (f"q{s}", s, "Evidence", "presence", "Is cyst present?", "yes", "no", "", "", "AB"[i % 2])
        for i, s in enumerate(names)
    ]
    pd.DataFrame(asked, columns=list(COLUMNS)).to_csv(tmp_path / "questions.csv", index=False)
    never = [float("nan")] * 5
    stage = write_history(tmp_path / "50", {"score": [*never, 0.5]})
    save_model(build(lm), stage / "model")
    given = {name: str(tmp_path / f"{name}.csv") for name in ("manifest", "questions")}
    given |= {"checkpoint": str(stage), "lm": lm, "features": "", "captions_stage": "", "truth": ""}
    given |= {"noise_draws": 2, "draws": 20, "widths": [7], "alphas": [0.0, 0.03, 1.0]}
    result = run_here(NOTEBOOK, tmp_path / "72", given)
    assert result.status == "ran", result.error
    answers = (tmp_path / "72/answers.md").read_text()
    told = answers.split("\n\n")
    assert [text.split("**")[1] for text in told] == [
        "Along training.",
        "On the test slides, too few to tell.",
        "The leak.",
    ]
    leaked = pd.read_csv(tmp_path / "72/leak.csv")
    assert set(leaked["task"]) == {"identification"} and leaked["d"].unique().tolist() == [7, D]
    assert (leaked.loc[leaked["alpha"] == 1, "share"] == 1).all()
    assert pd.read_csv(tmp_path / "72/stability.csv")["of"].unique().tolist() == ["answers"]
    mass = pd.read_csv(tmp_path / "72/mass.csv")
    assert 0.5 in mass["tau"].tolist() and mass["mass"].between(K / 41, 1).all()
    own = mass.set_index("tau").loc[0.5]
    log, paths, stability = (pd.read_csv(tmp_path / f"72/{name}.csv") for name in ("training", "paths", "stability"))
    again = [
        said("training", stages=along_training(log)),
        said("paths", scores=paths.fillna(""), agreed=stability, mass=own["mass"]),
        said("leak", at=soft_hard.leak_at(leaked, 0.03), n_classes=0, left_out=own["left_out"]),
    ]
    assert answers.replace("\N{NO-BREAK SPACE}", " ") == "\n\n".join(again) + "\n"


def test_bypass_and_hook_know_a_compressor_that_has_no_denoiser():
    compressor = SparseLearn(D, K, scorer_heads=3, scorer_width=12, denoiser="off")
    with soft_hard.denoiser_bypassed(compressor):
        assert compressor.denoiser is None
    assert compressor.denoiser is None
