"""The toy language model's samples, tokenizer and exam: words in, nothing else, and no answer without them."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from slidesieve.models.chat import ChatFormat
from slidesieve.models.language_model import load_lm
from slidesieve.provenance.files import ROOT
from slidesieve.synthetic import language, mosaic_words, pretraining
from slidesieve.synthetic.classes import CLASSES, DECOYS, FINDINGS, GRADES, TISSUES


@pytest.fixture(scope="module")
def tokenizer():
    return language.build_tokenizer()


def test_every_class_is_one_token_and_the_unknown_is_spelt(tokenizer, tmp_path):
    language.build_lm(tokenizer, width=16, layers=1, heads=2, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)  # as a folder of a real model would be loaded
    for reader in (tokenizer, again):
        assert all(reader.tokenize(name) == [name] for name in (*CLASSES, "tissue:", "LUAD", "A."))
        assert reader.tokenize("qzx!") == ["q", "##z", "##x", "##!"]
    turn = ChatFormat(again).turn("Is cyst present?\nA. yes\nB. no", ["yes"])
    assert again.convert_ids_to_tokens(turn.answers[0]) == ["yes", "<end>"]
    assert again.convert_ids_to_tokens(turn.prompt) == [
        "Is",
        "cyst",
        "present?",
        "A.",
        "yes",
        "B.",
        "no",
        "<assistant>",
    ]
    assert again.convert_ids_to_tokens(ChatFormat(again).head) == ["<user>"]


def test_answers_follow_from_the_words_and_from_nothing_else():
    rng = np.random.default_rng(0)
    samples = [language.draw_sample(rng) for _ in range(600)]
    assert all(2 <= len(s.words) <= 40 for s in samples)
    first = {"A": 0, "B": 0, "C": 0, "D": 0}
    for sample in samples:
        words = set(sample.words)
        for text, answer in sample.turns:
            lines = text.split("\n")
            options = [line[3:] for line in lines[1:]]
            if lines[0].startswith("Which finding"):
                assert answer in FINDINGS and words & set(options) & set(FINDINGS) == {answer}
                first["ABCD"[options.index(answer)]] += 1
            if lines[0].startswith("Which tissue"):
                counts = {name: sample.words.count(name) for name in TISSUES}
                assert counts[answer] == max(counts.values())
            if lines[0].startswith("What is the grade"):
                assert answer in GRADES and answer in words
            if lines[0].startswith("Is "):
                assert (answer == "yes") == (lines[0].split()[1] in words)
            if lines[0].startswith("Describe the region"):
                named = answer.split("also: ")[1].removesuffix(" .").split()
                assert named == [d for d in DECOYS if d in words] or (named == ["none"] and not words & set(DECOYS))
    assert min(first.values()) > 0.7 * max(first.values())


def test_mosaics_in_words_are_answered_by_counting_and_their_words_are_single_tokens(tokenizer):
    rng = np.random.default_rng(0)
    samples = [pretraining.draw(rng, 1.0) for _ in range(600)]
    numbers = {3: 0, 4: 0, 5: 0, 6: 0}
    for sample in samples:
        counts = {word: sample.words.count(word) for word in sample.words}
        most = sorted(counts.values())
        assert len(sample.words) <= mosaic_words.LONGEST and most[-1] > most[-2]
        numbers[len(counts)] += 1
        for text, answer in sample.turns:
            first, *lines = text.split("\n")
            options = [line[3:] for line in lines]
            match first.split():
                case ["Which", "of", *_] | ["Which", "subtype", *_]:
                    assert [option in counts for option in options].count(True) == 1 and answer in counts
                case ["Which", "has", *_]:
                    assert counts[answer] == most[-1] and len(options) == 4
                case ["Is", name, _]:
                    assert (answer == "yes") == (name in counts)
                case ["How", *_]:
                    assert answer == str(len(counts)) and sorted(options) == ["3", "4", "5", "6"]
                case ["Describe", *_]:
                    assert answer.split()[1] == max(counts, key=counts.get) and len(answer.split()) == 4 + len(counts)
    assert min(numbers.values()) > 0.15 * len(samples)
    wide = language.build_tokenizer(mosaic_words.WORDS)
    asked = {word for sample in samples for text, _ in sample.turns for word in text.split()} | {"most:"}
    assert all(len(wide.tokenize(word)) == 1 for word in asked)
    old = tokenizer.get_vocab()
    assert {word: wide.get_vocab()[word] for word in old} == old  # what there was stays where it was
    assert pretraining.draw(np.random.default_rng(3), 0.0) == language.draw_sample(np.random.default_rng(3))


def test_words_stand_at_increasing_places_inside_their_span(tokenizer):
    rng = np.random.default_rng(1)
    lm = language.build_lm(tokenizer, width=16, layers=1, heads=2, seed=0)
    samples = [language.draw_sample(rng) for _ in range(31)]
    prefix = pretraining.word_prefix(lm, tokenizer, samples, rng)
    for i, sample in enumerate(samples):
        places = prefix.positions[i, : len(sample.words)]
        assert (places.diff() > 0).all() and places[-1] < prefix.span[i] <= pretraining.LONGEST_GAP
        assert int(prefix.mask[i].sum()) == len(sample.words)
    assert any(int(span) == len(s.words) for span, s in zip(prefix.span, samples, strict=True))


def test_a_fresh_model_is_at_chance_with_and_without_context(tokenizer):
    lm = language.build_lm(tokenizer, width=16, layers=1, heads=2, seed=0)
    for with_context in (True, False):
        table = pretraining.exam(lm, tokenizer, samples=60, seed=0, with_context=with_context).set_index("question")
        assert set(table.index) >= {"Is ... present?", "What is the grade?", "Which tissue dominates?"}
        assert table.loc["Is ... present?", "chance"] == 0.5 and table.loc["What is the grade?", "chance"] == 0.25
        spread = 4 * (table["chance"] * (1 - table["chance"]) / table["questions"]) ** 0.5
        assert ((table["accuracy"] - table["chance"]).abs() <= spread).all()


def test_training_lowers_the_loss_is_seeded_and_resumes(tokenizer, tmp_path):
    how = {"steps": 25, "batch": 8, "lr": 0.01, "seed": 5, "save_minutes": 0}

    def fresh():
        return language.build_lm(tokenizer, width=16, layers=1, heads=2, seed=0)

    first, again = fresh(), fresh()
    log = pretraining.pretrain(first, tokenizer, checkpoint=tmp_path / "a.pt", **how)
    losses = log["loss"].to_numpy()
    assert losses[-5:].mean() < 0.8 * losses[:3].mean() and log["score"].count() == pretraining.EVALUATIONS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining.WordLoss, "gradients", fails_at(14, pretraining.WordLoss.gradients))
        with pytest.raises(InterruptedError):
            pretraining.pretrain(again, tokenizer, checkpoint=tmp_path / "b.pt", **how)
    again = fresh()
    assert pretraining.pretrain(again, tokenizer, checkpoint=tmp_path / "b.pt", **how).equals(log)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def fails_at(last: int, gradients):
    def failing(work, *given, step, **how):
        if step == last:
            raise InterruptedError
        return gradients(work, *given, step=step, **how)

    return failing


def test_the_leagues_own_model_still_reads_mosaics_in_words():
    """Its tables are of these weights: what loads them, or draws the questions, may not turn them into another."""
    lm, tokenizer = load_lm(str(ROOT / "reports/league/language_model"))
    table = pretraining.exam(lm, tokenizer, samples=40, seed=1, with_context=True, mosaics=1.0).set_index("question")
    assert (
        table.loc[["Is ... there?", "Which of these is there?", "Which subtype is the ... ?"], "accuracy"] > 0.9
    ).all()
