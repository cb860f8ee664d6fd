"""The benchmark of positions: bags of both lengths differ in positions alone, and the table's numbers by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import positions as bench
from slidesieve.features.bag import collate
from slidesieve.synthetic.classes import FINDINGS, TISSUES
from slidesieve.synthetic.language import build_lm, build_tokenizer


@pytest.mark.parametrize("longer", [1, bench.LONGER])
def test_a_bag_is_thinned_to_as_many_tiles_whatever_its_length(longer):
    looked = bench.looks_of(3)
    for bag, question in bench.draw(3, count=20, longer=longer, split=2):
        assert len(bag.x) == bench.CAP
        assert bench.SHORTEST * longer <= bag.slide_length <= bench.LONGEST * longer
        assert bag.slide_index[-1] == bag.slide_length - 1
        found = question.options[question.answer]
        distance = np.stack([np.linalg.norm(bag.x - look, axis=1) for look in looked.values()])
        nearest = np.array([*FINDINGS, *TISSUES])[distance.argmin(0)]
        assert 4 <= (nearest == found).sum() <= 6 and set(nearest) & set(FINDINGS) == {found}


def test_all_ways_have_the_same_bags_and_first_weights_and_only_original_leaves_the_trained_range(tmp_path):
    tokenizer = build_tokenizer()
    build_lm(tokenizer, width=24, layers=1, heads=3, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    rows = [bench.trial(str(tmp_path), "all", way, 1, steps=0, batch=4, test=8) for way in bench.WAYS]
    assert len({row["trained"] for row in rows}) >= 1 and all(0 <= row["ten_times"] <= 1 for row in rows)
    batch = collate([bag for bag, _ in bench.draw(1, count=4, longer=bench.LONGER, split=2)])
    for way in bench.WAYS:
        model = bench.build_vlm(
            str(tmp_path), "all", d=bench.D, k=bench.K, seed=1, options={}, projector_width=9,
            position_ids=way, position_span=bench.SPAN,
        )  # fmt: skip
        with torch.no_grad():
            assert (int(model.compress(batch).span.max()) > bench.LONGEST) == (way == "original")


def test_the_interval_is_students_over_seeds():
    runs = pd.DataFrame(
        [("all", "scaled", s, 0.9, 0.9 + lost) for s, lost in enumerate((-0.1, -0.2, -0.3))],
        columns=["method", "position_ids", "seed", "trained", "ten_times"],
    )
    row = bench.summary(runs).iloc[0]
    assert row.change == pytest.approx(-0.2) and row.seeds == 3
    assert row.ci_high - row.change == pytest.approx(4.302653 * 0.1 / 3**0.5, abs=1e-6)
