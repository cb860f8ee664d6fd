"""The needle benchmark's bags: patients kept apart, counts kept, the needle where its mark is, seeded."""

import numpy as np
import pandas as pd
import pytest
import torch
from shared_data import SHARED

from benchmarks.needle_bags import (
    HAY,
    MOST_NEEDLE,
    PATIENT,
    Slides,
    found_share,
    needle_bags,
    read_slides,
    split_patients,
)
from slidesieve.features.bag import make_bag
from slidesieve.features.store import write_packed

COUNTS = {"train": 24, "validation": 6, "test": 10}
N, D = 130, 5


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Slides:
    """40 lung patients and 20 of each other organ, one or two slides each; a token holds its slide's number first."""
    folder, rng = tmp_path_factory.mktemp("stores"), np.random.default_rng(0)
    (folder / "labels").mkdir()
    labels, number = [], 0
    for place, cohort in enumerate(("LUNG", *HAY)):
        bags = []
        for patient in range(20 if place else 40):
            for slide in range(1 + patient % 2):
                x = rng.standard_normal((int(rng.integers(1, 90)), D))
                x[:, 0] = number = number + 1
                bags.append(make_bag(f"TCGA-{place:02}-{patient:04}-{slide}.a.b", x, None, {}))
        write_packed(folder / f"{cohort}.h5", bags)
        if not place:
            labels = [(f"{bag.slide_id}.svs", ("LUAD", "LUSC")[i % 2]) for i, bag in enumerate(bags[:-1])]
    pd.DataFrame(labels, columns=["slide_id", "oncotree_code"]).to_csv(folder / "labels" / "tcga_lung_subtype.csv")
    return read_slides(folder)


def test_lung_slides_without_a_subtype_are_left_out(slides):
    assert (slides.kind >= 0).sum() == 59 and (slides.kind == -1).sum() == 120
    assert slides.stop[-1] == len(slides.tokens) and (slides.start[1:] == slides.stop[:-1]).all()


def test_no_patient_is_in_two_splits(slides):
    split = split_patients(slides, seed=0)
    patients = {name: {slides.slide_id[i][:PATIENT] for i in members} for name, members in split.items()}
    assert sum(map(len, patients.values())) == len(set.union(*patients.values())) == 120
    assert {name: len(found) for name, found in patients.items()} == {"train": 72, "validation": 18, "test": 30}
    assert sorted(np.concatenate(list(split.values()))) == list(range(179))


def test_bags_hold_one_needle_of_their_kind_and_whole_slides_of_other_organs(slides):
    of_row = np.repeat(np.arange(len(slides.kind)), slides.stop - slides.start)
    split = split_patients(slides, seed=3)
    for name, bags in needle_bags(slides, COUNTS, n=N, seed=3).items():
        assert bags.rows.shape == (COUNTS[name], N) and bags.y.sum() == COUNTS[name] // 2
        for rows, mark, y, slide in zip(bags.rows, bags.is_needle, bags.y, bags.slide, strict=True):
            assert len(set(rows)) == N and set(of_row[rows]) <= set(split[name])
            assert set(of_row[rows[mark]]) == {slide} and slides.kind[slide] == y
            assert (slides.kind[of_row[rows[~mark]]] == -1).all()
            assert mark.sum() == min(slides.stop[slide] - slides.start[slide], MOST_NEEDLE)
            first = mark.argmax()
            assert mark[first : first + mark.sum()].all()  # one run
            sizes = {s: (of_row[rows] == s).sum() for s in set(of_row[rows[~mark]])}
            assert sum(size < slides.stop[s] - slides.start[s] for s, size in sizes.items()) <= 1  # only the last cut


def test_a_needle_comes_again_only_after_all_of_its_kind(slides):
    bags = needle_bags(slides, COUNTS, n=N, seed=0)["test"]
    for kind in (0, 1):
        own = set(np.flatnonzero(slides.kind == kind)) & set(split_patients(slides, 0)["test"])
        times = np.bincount(bags.slide[bags.y == kind], minlength=len(slides.kind))[list(own)]
        assert times.max() - times.min() <= 1


def test_the_same_seed_gives_the_same_bags_and_another_seed_others(slides):
    a, b, c = (needle_bags(slides, COUNTS, n=N, seed=seed)["train"] for seed in (0, 0, 1))
    assert np.array_equal(a.rows, b.rows) and torch.equal(a.tokens, b.tokens) and not np.array_equal(a.rows, c.rows)


def test_features_are_standardised_on_training_tokens_alone(slides):
    bags = needle_bags(slides, COUNTS, n=N, seed=0)
    train = np.isin(np.repeat(np.arange(179), slides.stop - slides.start), split_patients(slides, 0)["train"])
    tokens = bags["test"].tokens.numpy()[train]
    assert np.allclose(tokens.mean(0), 0, atol=1e-4) and np.allclose(tokens.std(0), 1, atol=1e-4)


def test_a_batch_is_the_rows_of_its_bags(slides):
    bags = needle_bags(slides, COUNTS, n=N, seed=0)["validation"]
    batch, y = bags.batch(np.array([4, 1]))
    x, coords, mask = batch.tiles
    assert torch.equal(x[0], bags.tokens[torch.from_numpy(bags.rows[4])]) and y.tolist() == bags.y[[4, 1]].tolist()
    assert mask.all() and coords[1, :3].tolist() == [[0, 0], [1, 0], [2, 0]]


def test_bags_longer_than_the_hay_are_refused(slides):
    with pytest.raises(ValueError, match=r"hay slides lack \d+ of 9999 tokens; ask for shorter bags"):
        needle_bags(slides, COUNTS, n=9999, seed=0)


def test_hay_of_the_same_organ_is_of_other_patients_adenocarcinomas(slides):
    of_row = np.repeat(np.arange(len(slides.kind)), slides.stop - slides.start)
    for bags in needle_bags(slides, COUNTS, n=80, seed=3, hay="same").values():
        for rows, mark, slide in zip(bags.rows, bags.is_needle, bags.slide, strict=True):
            lying = set(of_row[rows[~mark]])
            assert {int(slides.kind[s]) for s in lying} == {0} and set(of_row[rows[mark]]) == {slide}
            assert slides.slide_id[slide][:PATIENT] not in {slides.slide_id[s][:PATIENT] for s in lying}


def test_found_share_counts_the_needle_among_the_kept(slides):
    bags = needle_bags(slides, {"train": 3, "validation": 2, "test": 2}, n=N, seed=0)["train"]
    kept = np.arange(40)[None]
    recall, precision = found_share(lambda *batch: kept, bags, batch=1)
    hits = bags.is_needle[:, :40].sum(1)
    few = np.where(np.arange(40) < 30, kept, -1)
    few_hits = bags.is_needle[:, :30].sum(1)
    assert found_share(lambda *batch: few, bags, batch=1)[1] == pytest.approx(few_hits.mean() / 30)
    assert recall == pytest.approx((hits / bags.is_needle.sum(1)).mean()) and precision == pytest.approx(
        hits.mean() / 40
    )


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason=f"no {SHARED}: set DATA_SHARED to the real test data")
def test_real_bags_have_the_published_make_up():
    slides = read_slides(SHARED / "mil" / "hipt_tcga")
    assert slides.tokens.shape[1] == 192 and (slides.kind >= 0).sum() == 958
    bags = needle_bags(slides, {"train": 60, "validation": 15, "test": 40}, n=1000, seed=0)
    share = bags["train"].is_needle.mean()
    assert 0.030 <= share <= 0.044  # 3.7 % of tokens are the needle's
