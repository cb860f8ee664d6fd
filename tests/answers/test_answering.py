"""Answers by log-likelihood, their controls, and what was selected, on a small model with random weights."""

from copy import deepcopy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from slidesieve.answers import answering, controls, generating, rotations, select, watching
from slidesieve.answers.tables import OPEN_COLUMNS, read_open_answers
from slidesieve.compressors.baselines import MeanPool
from slidesieve.datasets.examples import Example
from slidesieve.datasets.open_questions import OpenQuestion
from slidesieve.datasets.questions import Question, prompt
from slidesieve.features.bag import collate, make_bag
from slidesieve.models.chat import Turn, pack
from slidesieve.models.checkpoints import build_vlm
from slidesieve.models.prefix_lm import text_logits
from slidesieve.models.token_budget import chunks
from slidesieve.synthetic.language import build_lm, build_tokenizer
from slidesieve.training.shares import Share

D, K = 21, 5
WORDS = ("necrosis", "cyst", "abscess", "thrombus")
CASES = {slide: f"of {slide}" for slide in ("s30", "s3", "s29", "s11", "absent")}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("lm"), build_tokenizer()
    build_lm(tokenizer, width=32, layers=2, heads=4, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    options = {"scorer_width": 12, "scorer_heads": 3}
    return build_vlm(str(folder), "sparselearn", d=D, k=K, seed=2, options=options, projector_width=17).eval()


@pytest.fixture(scope="module")
def bags():
    rng = np.random.default_rng(0)
    place = {n: np.stack([np.arange(n) * 64, np.arange(n) % 3 * 64], 1) for n in (3, 11, 29, 30)}
    return {f"s{n}": make_bag(f"s{n}", rng.standard_normal((n, D)), place[n], {}) for n in (30, 3, 29, 11)}


@pytest.fixture(scope="module")
def questions(bags):
    asked = []
    for i, slide in enumerate([*bags, "absent"]):
        asked.append(
            Question(f"{slide}-which", slide, "finding", "Evidence", "Which finding is present?", WORDS, i % 4)
        )
        asked.append(Question(f"{slide}-is", slide, "presence", "Evidence", "Is cyst present?", ("no", "yes"), i % 2))
    return asked


def test_each_option_scores_what_it_scores_when_asked_alone(model, bags, questions):
    table = answering.answer(model, questions, bags, answer_form="text", batch_tokens=90).set_index("ID")
    for question in (q for q in questions if q.slide_id in bags):
        alone = []
        for option in question.options:
            texts = pack([[model.chat.turn(prompt(question), [option])]])
            with torch.no_grad():
                alone.append(float(model(collate([bags[question.slide_id]]), texts)[0].sum()))
        row = table.loc[question.id]
        got = [row[f"logp_{letter}"] for letter in "ABCD"[: len(alone)]]
        assert got == pytest.approx(alone, abs=2e-4)
        assert row["predicted"] == "ABCD"[int(np.argmax(alone))]
        assert all(np.isnan(row[f"logp_{letter}"]) for letter in "ABCD"[len(alone) :])


def test_no_batch_exceeds_the_budget_and_none_changes_an_answer(model, bags, questions, monkeypatch):
    """Budgets of one slide to all, and turns in chunks: a slide is compressed once, its answers are the same."""
    logp, seen = [f"logp_{letter}" for letter in "ABCD"], []
    model.compressor.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:2]))
    tables = []
    for budget, text in ((10**6, 2048), (10**6, 30), (120, 2048), (1, 1)):
        monkeypatch.setattr("slidesieve.answers.sums.chunks", lambda turns, text=text: chunks(turns, text))
        seen.clear()
        tables.append(answering.answer(model, questions, bags, answer_form="text", batch_tokens=budget).set_index("ID"))
        assert sum(b for b, _ in seen) == 4 and all(b * n <= budget or b == 1 for b, n in seen)
    model.compressor._forward_pre_hooks.clear()
    for table in tables[1:]:
        assert table.loc[tables[0].index, logp].to_numpy(float) == pytest.approx(
            tables[0][logp].to_numpy(float), abs=2e-5, nan_ok=True
        )


def test_processes_divide_the_slides_and_sum_to_the_whole(model, bags, questions, monkeypatch):
    captions = [Example(s, None, (("Describe", w),)) for s, w in zip(bags, WORDS, strict=True)]
    captions += [Example("s30", None, (("Is", "no"),)), Example("s29", (0, 0, 64 * 9, 64), (("Is", "no"),))]
    right = partial(watching.answer_accuracy, model, questions, bags, answer_form="text", batch_tokens=90)
    words = partial(watching.answer_probability, model, captions, bags, max_tiles=27, batch_tokens=90)
    watch = partial(watching.soft_watch, model, bags, lambda model, seed, share: 0.0, seed=1, batch_tokens=90)
    whole, sums = (right(), words(), watch()["mass"]), []

    class Noting(Share):
        def total(self, *numbers):
            sums[-1].append(numbers)
            return list(numbers)

    for rank in range(3):
        sums.append([])
        right(share=Noting(rank, 3)), words(share=Noting(rank, 3)), watch(share=Noting(rank, 3))
    right, words, mass = ([sum(column) for column in zip(*parts, strict=True)] for parts in zip(*sums, strict=True))
    assert right[0] / len(questions) == whole[0] and right[2] == 8  # the slide that is absent is nobody's
    assert np.exp(words[0] / words[1]) == pytest.approx(whole[1], rel=1e-5)
    assert mass[0] / mass[1] == pytest.approx(whole[2], abs=1e-6) and mass[1] == 4


def test_a_score_that_is_no_number_is_no_answer(model, bags, questions):
    spoilt = dict(bags)
    spoilt["s29"] = bags["s29"]._replace(x=bags["s29"].x * np.nan)
    how = {"answer_form": "text", "batch_tokens": 90}
    table = answering.answer(model, questions, spoilt, **how)
    lost = table["Slide"] == "s29"
    assert table.loc[lost, "predicted"].isna().all() and table.loc[~lost, "predicted"].notna().all()
    named = {"method": "mine", "cases": CASES}
    whole = answering.answer_all(model, questions, spoilt, wrong_slide=False, control_seed=0, **named, **how)
    lost = whole["Slide"].isin(["s29", "absent"])
    assert lost.sum() == 8 and not whole.loc[lost, ["covered", "correct"]].any(axis=None)
    assert whole.loc[~lost, "covered"].all()
    key = {q.id: q.answer for q in questions}
    right = [
        key[i] == "ABCD".index(p) for i, p in zip(table["ID"], table["predicted"], strict=True) if isinstance(p, str)
    ]
    assert watching.answer_accuracy(model, questions, spoilt, **how) == sum(right) / len(questions)
    only = {"s29": spoilt["s29"]}
    assert np.isnan(watching.answer_accuracy(model, [q for q in questions if q.slide_id == "s29"], only, **how))


def test_letters_are_scored_when_asked_for(model, bags, questions):
    table = answering.answer(model, questions[:1], bags, answer_form="letter", batch_tokens=90)
    texts = pack([[model.chat.turn(prompt(questions[0]), ["C"])]])
    with torch.no_grad():
        expected = float(model(collate([bags[questions[0].slide_id]]), texts)[0].sum())
    assert table["logp_C"][0] == pytest.approx(expected, abs=2e-4)
    with pytest.raises(ValueError, match="answer_form: got 'word'"):
        answering.answer(model, questions[:1], bags, answer_form="word", batch_tokens=90)


def test_the_soft_path_is_seeded_differs_from_the_hard_one_and_is_left_again(model, bags, questions):
    def scores(seed):
        return answering.answer(model, questions, bags, answer_form="text", batch_tokens=90, seed=seed)[
            "logp_A"
        ].tolist()

    assert scores(1) == scores(1) != scores(2)
    assert scores(None) != scores(1)
    assert not model.training and not model.compressor.training


def test_a_question_without_features_is_there_uncovered_and_wrong(model, bags, questions):
    whole = answering.answer_all(
        model,
        questions,
        bags,
        method="mine",
        cases=CASES,
        answer_form="text",
        batch_tokens=90,
        wrong_slide=True,
        control_seed=0,
    )
    assert (whole["case_id"] == whole["Slide"].map(CASES)).all()
    assert set(whole["method"]) == {"mine", "mine_soft", "mine_wrong_slide"}
    assert (whole.groupby("method").size() == len(questions)).all()
    lost = whole["Slide"] == "absent"
    assert not whole.loc[lost, ["covered", "correct"]].any(axis=None) and whole.loc[~lost, "covered"].all()
    hard = whole[whole["method"] == "mine"]
    assert hard["correct"].mean() == answering.accuracy(hard[hard["covered"]], questions)


@pytest.mark.parametrize("slides", [[1, 1], [2, 2], [1, 1, 1], [3, 1, 2], [5, 1, 1, 1, 1, 1], [1] * 17])
def test_nobody_is_asked_about_another_slide_of_their_own(slides):
    """For patients with so many slides each: every slide is given once, to another patient."""
    case = {f"s{p}{i}": f"p{p}" for p, n in enumerate(slides) for i in range(n)}
    for seed in range(5):
        other = controls.wrong_slides(list(case), case, seed=seed)
        assert sorted(other) == sorted(other.values()) == sorted(case)
        assert all(case[slide] != case[swapped] for slide, swapped in other.items())


@pytest.mark.parametrize("slides", [[1], [2], [3, 2], [4, 1, 1]])
def test_a_patient_with_most_of_the_slides_has_nobody_to_be_mistaken_for(slides):
    case = {f"s{p}{i}": f"p{p}" for p, n in enumerate(slides) for i in range(n)}
    with pytest.raises(ValueError, match=f"got {len(case)} slides of {len(slides)} patients, {max(slides)} of one"):
        controls.wrong_slides(list(case), case, seed=0)


@pytest.mark.parametrize("form", ["text", "letter"])
@pytest.mark.parametrize("rotations", [1, 2, 3, 9])
def test_an_option_scores_its_mean_over_the_places_that_it_takes(model, bags, questions, form, rotations):
    how = {"answer_form": form, "batch_tokens": 90}
    table = answering.answer(model, questions, bags, rotations=rotations, **how).set_index("ID")
    for question in (q for q in questions if q.slide_id in bags):
        n, sums, letters = len(question.options), [], ""
        for r in range(min(rotations, n)):
            moved = tuple(question.options[(i + r) % n] for i in range(n))
            asked = question._replace(options=moved)
            row = answering.answer(model, [asked], bags, **how).iloc[0]
            sums.append({option: row[f"logp_{letter}"] for option, letter in zip(moved, "ABCD", strict=False)})
            letters += row["predicted"]
        expected = [np.mean([own[option] for own in sums]) for option in question.options]
        row = table.loc[question.id]
        assert [row[f"logp_{letter}"] for letter in "ABCD"[:n]] == pytest.approx(expected, abs=2e-4)
        assert row["predicted"] == "ABCD"[int(np.argmax(expected))] and row["letters"] == letters


def test_a_choice_by_token_divides_by_the_length_of_the_option(model, bags, questions):
    long = [q._replace(options=("yes", "no necrosis cyst abscess", "cyst cyst")) for q in questions[::2]]
    table = answering.answer(model, long, bags, answer_form="text", batch_tokens=90)
    lengths = [len(model.chat.turn("", [option]).answers[0]) for option in long[0].options]
    assert len(set(lengths)) == 3
    sums = table[["logp_A", "logp_B", "logp_C"]].to_numpy(float)
    assert table["per_token"].tolist() == ["ABC"[i] for i in (sums / lengths).argmax(1)]
    assert table["predicted"].tolist() == ["ABC"[i] for i in sums.argmax(1)] != table["per_token"].tolist()


def test_a_liking_for_a_letter_is_told_beside_how_often_it_is_right():
    asked = [Question("a", "s", "", "", "?", ("w", "x", "y"), 2), Question("b", "s", "", "", "?", ("w", "x"), 0)]
    said = pd.DataFrame({"method": "m", "ID": ["a", "b"], "letters": ["AAB", "AA"]})
    table = rotations.letter_bias(said, asked).set_index("letter")
    assert table["chosen"].to_dict() == pytest.approx({"A": 4 / 5, "B": 1 / 5, "C": 0})
    assert table["right"].to_dict() == pytest.approx({"A": 2 / 5, "B": 2 / 5, "C": 1 / 5})  # C, B, A and A, B
    assert rotations.letter_bias(said.assign(letters=""), asked).empty
    unanswered = said.assign(letters=[float("nan"), "AA"])  # of a question whose slide has no features
    assert rotations.letter_bias(unanswered, asked)["letter"].tolist() == ["A", "B"]


def test_selection_is_the_k_best_scores_best_first(model, bags):
    chosen = select.select(model, bags, batch_tokens=90)
    for slide, bag in bags.items():
        with torch.no_grad():
            batch = collate([bag])
            scores = model.compressor.scores(model.normalise(batch), batch.mask)[0].numpy()
        kept, score = chosen[slide]
        assert kept.tolist() == np.argsort(-scores)[:K].tolist()
        assert score == pytest.approx(scores[kept], abs=1e-5)


def test_planted_tiles_are_counted_by_place(tmp_path, bags):
    truth = tmp_path / "truth.csv"
    rows = [("s11", *bags["s11"].coords[i], kind, "x") for i, kind in ((2, "finding"), (7, "grade"), (9, "decoy"))]
    pd.DataFrame(rows, columns=["slide_id", "x_px0", "y_px0", "kind", "name"]).to_csv(truth, index=False)
    chosen = {"s11": (np.array([7, 9, 1]), np.array([3.0, 2.0, 1.0]))}
    table = select.selection_by_slide(select.selected_tiles(chosen, bags), bags, truth)
    assert table.to_dict("records") == [
        {"slide_id": "s11", "n_tiles": 11, "n_planted": 2, "n_kept": 3, "n_kept_planted": 1}
    ]
    assert select.selection_by_slide(select.selected_tiles(chosen, bags), bags, None).empty


def test_caption_score_is_the_geometric_mean_over_tokens_boxes_included(model, bags):
    captions = [Example("s30", None, (("Describe", "cyst ."),)), Example("s29", (0, 0, 64 * 9, 64), (("Is", "no"),))]
    total, count = 0.0, 0
    for caption in captions:
        bag = bags[caption.slide_id]
        if caption.box:
            inside = (bag.coords[:, 0] < 64 * 9) & (bag.coords[:, 1] < 64)
            bag = bag._replace(x=bag.x[inside], coords=bag.coords[inside])
        texts = pack([[model.chat.turn(p, [a]) for p, a in caption.turns]])
        with torch.no_grad():
            total += float(model(collate([bag]), texts)[0].sum())
        count += sum(len(model.chat.turn(p, [a]).answers[0]) for p, a in caption.turns)
    got = watching.answer_probability(model, captions, bags, max_tiles=27, batch_tokens=90)
    assert got == pytest.approx(np.exp(total / count), rel=1e-4)


def test_generated_answers_are_read_strictly():
    question = Question("q", "s", "", "", "Which?", ("cyst", "no cyst", "yes"), 0)
    assert generating.parse("No cyst", question, "text") == "B"
    assert generating.parse("a cyst", question, "text") is None
    assert generating.parse("B. cyst", question, "letter") == "B"
    said = pd.DataFrame({"ID": ["a", "b", "c"], "said": ["x"] * 3, "parsed": ["A", "", "B"]})
    truth = pd.DataFrame({"ID": ["c", "b", "a"], "predicted": ["B", "A", "C"]})
    assert "rate 0.333" in generating.agreement(said, truth) and generating.agreement(said, truth).endswith("0.333")


def test_greedy_words_are_each_the_likeliest_next(model, bags, questions):
    how = {"answer_form": "text", "most_tokens": 3, "batch_tokens": 99}
    said = generating.cross_check(model, questions[:1], bags, **how)["said"][0].split()
    words = [name for name in model.tokenizer.get_vocab() if not name.startswith(("##", "<"))]
    turn = model.chat.turn(prompt(questions[0]), words)
    texts = pack([[turn]])
    with torch.no_grad():
        log_probs = model(collate([bags[questions[0].slide_id]]), texts)[0]
    first = {w: float(log_probs[texts.answer == i][0]) for i, w in enumerate(words)}
    if said:
        assert max(first, key=first.get) == said[0]


def test_generated_answers_are_those_of_running_everything_anew_for_each_word(model, bags, questions):
    asked = questions[:5]
    how = {"answer_form": "text", "most_tokens": 6}
    table = generating.cross_check(model, asked, bags, batch_tokens=1, **how).set_index("ID")
    together = generating.cross_check(model, asked, bags, batch_tokens=9999, **how).set_index("ID")
    assert together.equals(table)
    for question in asked:
        turn = model.chat.turn(prompt(question), [])
        prefix, said = model.prefix(model.compress(collate([bags[question.slide_id]])), pack([[turn]])), []
        start = turn.prompt
        while len(said) < 6 and model.chat.end not in said:
            with torch.no_grad():
                logits = text_logits(model.lm, model.chat.head, prefix, pack([[Turn(start + said, [])]]))
            said.append(int(logits[0, -1].argmax()))
        assert table.loc[question.id, "said"] == model.tokenizer.decode(said, skip_special_tokens=True).strip()


def test_what_is_watched_in_training(model, bags, questions):
    """Mass by the equation: sum of alpha over the k best, over k; 1 on a slide of at most k tiles."""
    evaluate = partial(watching.answer_accuracy, questions=questions, bags=bags, answer_form="text", batch_tokens=90)
    model.compressor.tau.fill_(0.3)
    seen = watching.soft_watch(model, bags, evaluate, seed=4, batch_tokens=90)
    masses = []
    for bag in bags.values():
        batch = collate([bag])
        with torch.no_grad():
            s = model.compressor.scores(model.normalise(batch), batch.mask)[0].double()
        z = (s - s.mean()) / (s.var(correction=0) + 1e-6).sqrt() / 0.3
        low, high = z.min() - 50, z.max() + 50
        for _ in range(100):  # bisection for the threshold
            b = (low + high) / 2
            alpha = torch.where(z > b, 1 - 0.5 * (b - z).exp(), 0.5 * (z - b).exp())
            low, high = (b, high) if alpha.sum() > K else (low, b)
        masses.append(float(alpha[s.argsort(descending=True)[:K]].sum() / K) if len(s) > K else 1.0)
    assert seen["mass"] == pytest.approx(np.mean(masses), abs=1e-4) and min(masses) < 0.95
    assert seen["tau"] == pytest.approx(0.3)
    soft = answering.answer(model, questions, bags, answer_form="text", batch_tokens=90, seed=4)
    assert seen["soft_score"] == answering.accuracy(soft, questions) == evaluate(model, seed=4)
    assert evaluate(model) == answering.accuracy(
        answering.answer(model, questions, bags, answer_form="text", batch_tokens=90), questions
    )


def test_a_method_without_scores_has_nothing_to_watch(model, bags):
    selector, model.compressor = model.compressor, MeanPool(D, K)
    seen = watching.soft_watch(model, bags, lambda model, seed, share: 1.0, seed=4, batch_tokens=90)
    model.compressor = selector
    assert list(seen) == ["soft_score", "mass", "tau"] and np.isnan(list(seen.values())).all()


def test_caption_score_on_the_soft_path_is_seeded(model, bags):
    captions = [Example("s30", None, (("Describe", "cyst ."),))]
    score = partial(watching.answer_probability, model, captions, bags, max_tiles=27, batch_tokens=90)
    assert score(seed=1) == score(seed=1) != score(seed=2) != score()


def test_open_answers_have_a_row_each_and_end_where_they_are_told_to(model, bags):
    asked = [
        OpenQuestion(f"o{i}", slide, "Report", "B", "Describe.", "A cyst.") for i, slide in enumerate([*bags, "x"])
    ]
    cases = {slide: f"case {slide}" for slide in [*bags, "x"]}
    how = {"method": "m", "cases": cases, "most_tokens": 7}
    table = generating.open_answers(model, asked, bags, batch_tokens=1, **how)
    assert table["covered"].tolist() == [True] * len(bags) + [False] and table["said"].iloc[-1] == ""
    assert table["case_id"].iloc[0] == f"case {next(iter(bags))}" and set(table["k"]) == {K}
    assert set(table.assign(fold=-1).columns) == set(OPEN_COLUMNS)
    assert generating.open_answers(model, asked, bags, batch_tokens=9999, **how).equals(table)
    model = deepcopy(model)
    model.lm.get_output_embeddings().weight = torch.nn.Parameter(-model.lm.get_output_embeddings().weight)
    other = generating.open_answers(model, asked, bags, batch_tokens=99, **how)
    words = next((text for text in other["said"] if len(text.split()) > 1), "")
    assert words, other["said"].tolist()
    stop = words.split()[1]
    cut = generating.open_answers(model, asked, bags, batch_tokens=99, stop=stop, **how)
    row = other["said"].tolist().index(words)
    assert cut["said"][row] == words.partition(stop)[0].strip() and cut["ended"][row]


def test_open_answers_of_other_questions_are_not_joined(tmp_path):
    row = dict.fromkeys(OPEN_COLUMNS, "x") | {
        "k": 8,
        "seed": 0,
        "fold": -1,
        "said": "NA",
        "ended": True,
        "covered": True,
    }
    for name, change in (("a", {}), ("b", {"method": "y"}), ("c", {"method": "z", "reference": "other"}), ("d", None)):
        (tmp_path / name).mkdir()
        if change is not None:
            pd.DataFrame([row | change]).to_csv(tmp_path / name / "open_answers.csv", index=False)
    both = read_open_answers([tmp_path / name for name in "abd"])
    assert both["method"].tolist() == ["x", "y"] and both["said"].tolist() == ["NA", "NA"]
    assert read_open_answers([tmp_path / "d"]).empty
    with pytest.raises(ValueError, match=r"\('z', 8, 0\) was asked 1 questions, .* 2 of them not the other's"):
        read_open_answers([tmp_path / name for name in "ac"])
