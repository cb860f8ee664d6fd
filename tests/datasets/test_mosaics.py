"""Mosaics by their laws: whose tokens, how many, nobody twice, and nothing to be had from the words."""

import numpy as np
import pandas as pd
import pytest

from slidesieve.cohort.manifest import read_manifest
from slidesieve.cohort.splits import published_splits
from slidesieve.datasets import mosaic_questions, mosaic_sources, mosaics
from slidesieve.datasets.labels import label_slides, read_labels
from slidesieve.datasets.mosaics import MAIN, OTHER, RARE, SMALL, SUBTYPE, make_mosaics, sides_of, sizes_of
from slidesieve.datasets.questions import read_questions
from slidesieve.features.bag import make_bag
from slidesieve.features.store import PackedStore, write_packed

KINDS = [f"K{i}" for i in range(9)]
SUBTYPES = {"K0": ["a", "b"], "K3": ["c", "d", "e"]}
COUNTS = {"train": 24, "val": 12, "test": 24}
SIZES = [30, 15, 15, 9, 7, 3]


def slides(per_kind=240, seed=0):
    rng, rows = np.random.default_rng(seed), []
    for kind in KINDS:
        for i in range(per_kind):
            own = SUBTYPES.get(kind, [""])
            rows.append(
                (f"{kind}_{i}", f"{kind}_p{i // 2}", f"s{i % 11}", kind, own[i % len(own)], 20 + rng.integers(30))
            )
    table = pd.DataFrame(rows, columns=["slide_id", "case_id", "site", "kind", "subtype", "n"])
    return table.assign(side=sides_of(table, by="case_id", seed=1))


SLIDES = slides()
CASE = dict(zip(SLIDES["slide_id"], SLIDES["case_id"], strict=True))


@pytest.fixture(scope="module", params=[79, 200])
def made(request):
    again = request.param > 100
    return make_mosaics(SLIDES, COUNTS, tokens=request.param, sizes=SIZES, fillers_again=again, seed=3)


@pytest.mark.parametrize("by", ["case_id", "site"])
def test_no_patient_or_site_is_on_two_sides_and_each_kind_is_on_all(by):
    table = SLIDES.assign(side=sides_of(SLIDES, by=by, seed=4))
    assert (table.groupby(by)["side"].nunique() == 1).all()
    assert (table.groupby("kind")["side"].nunique() == 3).all() or by == "site"
    share = table.groupby("side")["slide_id"].size() / len(table)
    assert share["train"] == pytest.approx(0.6, abs=0.08) and share["test"] == pytest.approx(0.25, abs=0.08)
    with pytest.raises(ValueError, match="1 slides have no site"):
        sides_of(SLIDES.assign(site=["", *SLIDES["site"][1:]]), by="site", seed=0)


def test_each_bag_has_its_tokens_its_pieces_and_one_kind_a_piece(made):
    assert {m.of(RARE)[0].size for m in made} == {3}
    assert len({sum(piece.size for piece in m.pieces) for m in made}) == 1
    for mosaic in made:
        sizes = {role: [piece.size for piece in mosaic.of(role)] for role in (MAIN, SUBTYPE, RARE, OTHER)}
        assert [len(sizes[role]) for role in (MAIN, SUBTYPE, RARE)] == [1, 1, 1] and sizes[SUBTYPE] == [7]
        assert sizes[MAIN][0] > max([*sizes[OTHER], 7])
        kinds = [piece.kind for piece in mosaic.pieces]
        assert len(set(kinds)) == len(kinds) == 3 + len(sizes[OTHER])
        for piece in mosaic.pieces:
            for run in piece.runs:
                row = SLIDES.set_index("slide_id").loc[run.slide_id]
                assert (
                    row["kind"] == piece.kind and row["side"] == mosaic.side and 0 <= run.start < run.stop <= row["n"]
                )
                assert piece.subtype in ("", row["subtype"])
            assert len(piece.runs) == 1 or piece.role not in SMALL
    for side, count in COUNTS.items():  # as many bags of each number of pieces, of each kind and subtype
        own = [m for m in made if m.side == side]
        assert len(own) == count
        assert {sum(len(m.pieces) == k for m in own) for k in (3, 4, 5, 6)} == {count // 4}
        asked = pd.Series([m.of(SUBTYPE)[0].subtype for m in own]).value_counts()
        assert asked[["a", "b"]].nunique() == asked[["c", "d", "e"]].nunique() == 1


def test_a_patient_is_in_one_bag_or_comes_again_as_filler_only(made):
    owned = mosaic_sources.owners(made, CASE).assign(side=lambda t: t["slide_id"].str.split("_").str[1])
    tested = owned[owned["side"] != "train"]
    bags = tested.groupby("source_case")["slide_id"].nunique()
    small = tested[tested["role"].isin(SMALL)]["source_case"].unique()
    assert (bags[small] == 1).all()
    assert (bags.max() == 1) == (tested.groupby("slide_id")["stop"].max().max() < 100)
    assert not owned.duplicated(["slide_id", "source_case"]).any()  # one run of a patient
    for _, runs in owned.groupby("slide_id"):  # end to end
        assert runs["start"].tolist() == [0, *runs["stop"][:-1]] and (runs["start"] < runs["stop"]).all()


def test_runs_are_told_token_by_token(made):
    owned = mosaic_sources.owners(made, CASE)
    naive = [(r.slide_id, i, r.role, r.kind, r.subtype) for r in owned.itertuples() for i in range(r.start, r.stop)]
    assert list(mosaic_sources.by_token(owned).itertuples(index=False, name=None)) == naive
    planted = [row for row in naive if row[2] in SMALL]
    truth = mosaic_sources.truth_table(owned)
    assert list(truth.itertuples(index=False, name=None)) == [(s, i, 0, role, kind) for s, i, role, kind, _ in planted]


def test_the_same_seed_makes_the_same_and_another_others():
    how = {"tokens": 79, "sizes": SIZES}
    first, again, other = (make_mosaics(SLIDES, {"test": 4}, seed=s, **how) for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("m", [3, 4, 5, 6])
@pytest.mark.parametrize("tokens", [156, 1000, 4001])
def test_sizes_add_up_and_the_smallest_stay(m, tokens):
    found = sizes_of(m, tokens)
    assert sum(found) == tokens and found[-2:] == [8, 4] and len(found) == m and found[0] == max(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokens": 20}, "tokens: got 20; expected at least the 79"),
        ({"sizes": [3, 5]}, r"sizes: got \[3, 5\]"),
        ({"numbers": [2, 3]}, r"numbers: got \[2, 3\]"),
        ({"numbers": [3, 4, 5, 6, 7]}, r"numbers: got \[3, 4, 5, 6, 7\]"),
        ({"counts": {"test": 500}}, r"test has slides for \d+ of 500 bags of 79 tokens"),
        ({"sources": SLIDES[SLIDES["kind"] < "K8"]}, "got 8 kinds .*; expected at least 9 for 6 pieces"),
    ],
)
def test_what_cannot_be_made_is_refused(change, said):
    how = {"sources": SLIDES, "counts": {"test": 4}, "tokens": 79, "sizes": SIZES, "seed": 0} | change
    with pytest.raises(ValueError, match=said):
        make_mosaics(how.pop("sources"), how.pop("counts"), **how)


def test_answers_are_true_and_the_words_alone_are_worth_nothing(made):
    """What is asked is read off the owners, not off the pieces; each letter is right equally often, each option too."""
    table = mosaic_questions.question_table(made, KINDS, SUBTYPES, [3, 4, 5, 6], seed=5)
    owned = mosaic_sources.owners(made, CASE)
    tokens = (owned["stop"] - owned["start"]).groupby([owned["slide_id"], owned["kind"]]).sum()
    for row in table.to_dict("records"):
        there, right = tokens[row["Slide"]], row[row["Answer"]]
        options = [row[letter] for letter in "ABCD" if row[letter]]
        assert len(set(options)) == len(options)
        match row["Narrow Category"].split():
            case ["rare"]:
                assert right == there.idxmin() and sum(option in there for option in options) == 1
            case ["presence"]:
                assert (row["Question"].split()[1] in there) == (right == "yes")
            case ["most"]:
                assert right == there.idxmax()
            case ["count"]:
                assert right == str(len(there)) and sorted(options) == ["3", "4", "5", "6"]
            case ["subtype", kind]:
                own = owned[(owned["slide_id"] == row["Slide"]) & (owned["kind"] == kind)]
                assert set(own["subtype"]) == {right} and sorted(options) == SUBTYPES[kind]
    table["side"] = table["Slide"].str.split("_").str[1]
    for (_, narrow), part in table.groupby(["side", "Narrow Category"]):
        letters = part["Answer"].value_counts()
        assert letters.max() - letters.min() <= 1 and len(letters) == (part[list("ABCD")] != "").any().sum(), narrow


def test_no_kind_is_likelier_to_be_the_right_option():
    """Over many bags: of the kinds that are offered, each is right in about a quarter, whatever else is asked."""
    made = make_mosaics(SLIDES, {"train": 1200}, tokens=79, sizes=SIZES, seed=8)
    table = mosaic_questions.question_table(made, KINDS, SUBTYPES, [3, 4, 5, 6], seed=5)
    for narrow in ("rare", "most"):
        part = table[table["Narrow Category"] == narrow]
        right = pd.Series([row[row["Answer"]] for row in part.to_dict("records")])
        for kind in KINDS:
            offered = (part[list("ABCD")] == kind).any(axis=1).sum()
            share, spread = (right == kind).sum() / offered, (0.25 * 0.75 / offered) ** 0.5
            assert abs(share - 0.25) < 4 * spread, (narrow, kind)
    part = table[table["Narrow Category"] == "presence"]
    named, yes = (
        part["Question"].str.split().str[1],
        np.array([row[row["Answer"]] for row in part.to_dict("records")]) == "yes",
    )
    assert all(abs(yes[named == kind].mean() - 0.5) < 4 * (0.25 / (named == kind).sum()) ** 0.5 for kind in KINDS)


@pytest.fixture
def stores(tmp_path):
    rng, paths = np.random.default_rng(0), []
    for kind, part in SLIDES.groupby("kind"):
        paths.append(tmp_path / f"{kind}.h5")
        write_packed(
            paths[-1],
            [make_bag(s, rng.normal(size=(n, 5)), None, {}) for s, n in zip(part["slide_id"], part["n"], strict=True)],
        )
    return [PackedStore(path) for path in paths]


def test_sources_join_stores_and_labels(stores, tmp_path):
    labels = SLIDES[SLIDES["subtype"] != ""].assign(
        slide_id=lambda t: t["slide_id"] + ".svs", code=lambda t: t["subtype"]
    )
    labels[["slide_id", "case_id", "site", "code"]].to_csv(tmp_path / "l.csv", index=False)
    found = mosaic_sources.read_sources(stores, [tmp_path / "l.csv"], kind="", subtype="code")
    both = found.merge(SLIDES, on="slide_id", suffixes=("", "_known"))
    assert (
        len(both) == len(SLIDES) and (both["kind"] == both["kind_known"]).all() and (both["n"] == both["n_known"]).all()
    )
    labelled = both["kind"].isin(SUBTYPES)
    assert (both["subtype"] == both["subtype_known"]).all() and (both["case_id"] == both["case_id_known"])[
        labelled
    ].all()
    assert (both["case_id"] == both["slide_id"])[~labelled].all()  # no patient is known: a slide is its own
    by_label = mosaic_sources.read_sources(stores, [tmp_path / "l.csv"], kind="code", subtype="")
    assert set(by_label["kind"]) == set("abcde") and (by_label["subtype"] == "").all()
    with pytest.raises(ValueError, match="no column grade in 1 tables"):
        mosaic_sources.read_sources(stores, [tmp_path / "l.csv"], kind="", subtype="grade")
    with pytest.raises(ValueError, match="240 slides are in two of them"):
        mosaic_sources.read_sources([*stores, stores[0]], [], kind="", subtype="")
    tcga = tmp_path / "LUNG.h5"
    write_packed(tcga, [make_bag(f"TCGA-05-424{i}-01Z-00-DX{i}", np.ones((2, 5)), None, {}) for i in (1, 2)])
    own = mosaic_sources.read_sources([PackedStore(tcga)], [], kind="", subtype="")
    assert own["case_id"].tolist() == ["TCGA-05-4241", "TCGA-05-4242"] and own["site"].tolist() == ["05", "05"]


def test_shuffled_bags_hold_each_token_once_in_an_order_of_their_own(made):
    joined, owned = mosaic_sources.owners(made, CASE), mosaic_sources.owners(made, CASE, shuffle=4)
    order = ["start", "stop", "source_slide", "source_start", "n"]
    assert joined[order].equals(owned[order]) and (joined["shuffled"] == -1).all() and (owned["shuffled"] >= 0).all()
    before, after = (dict(list(mosaic_sources.by_token(table).groupby("slide_id"))) for table in (joined, owned))
    moved = [after[name]["index"].to_numpy() for name in before]
    assert all(sorted(own) == list(range(len(own))) for own in moved)
    assert not any((own == np.arange(len(own))).all() for own in moved) and (moved[0] != moved[1]).any()
    assert owned.equals(mosaic_sources.owners(made, CASE, shuffle=4))
    assert not owned.equals(mosaic_sources.owners(made, CASE, shuffle=5))
    part = owned[owned["role"].isin(SMALL)]  # of some runs alone the places are the same
    own = mosaic_sources.by_token(owned)
    assert mosaic_sources.by_token(part).equals(own[own["role"].isin(SMALL)].reset_index(drop=True))
    first_last = [np.isin([0, len(t) - 1], t["index"][t["role"].isin(SMALL)]).mean() for t in after.values()]
    joined_so = [np.isin([0, len(t) - 1], t["index"][t["role"].isin(SMALL)]).mean() for t in before.values()]
    assert np.mean(first_last) < 0.35 < np.mean(joined_so)  # the ends tell of small pieces no more
    assert mosaic_sources.by_token(joined.drop(columns=["n", "shuffled"])).equals(
        mosaic_sources.by_token(joined)
    )  # older tables


@pytest.mark.parametrize("shuffle", [-1, 2])
def test_a_bag_holds_the_rows_that_its_owners_name(stores, shuffle):
    found = mosaic_sources.read_sources(stores, [], kind="", subtype="")
    found["side"] = sides_of(found, by="case_id", seed=0)
    made = make_mosaics(found, {"train": 3, "test": 2}, tokens=79, sizes=SIZES, seed=0)
    case, store = (found.set_index("slide_id")[name] for name in ("case_id", "store"))
    owned = mosaic_sources.owners(made, case, shuffle=shuffle)
    bags = {bag.slide_id: bag for bag in mosaic_sources.bags_of(made, stores, store, owned)}
    assert list(bags) == [m.name for m in made]
    for row in owned.itertuples():
        source, n = stores[store[row.source_slide]].read(row.source_slide).x[row.source_start :], row.stop - row.start
        put = mosaic_sources.placed(row.n, row.shuffled)[row.start : row.stop]
        assert np.array_equal(bags[row.slide_id].x[put], source[:n])
    truth = mosaic_sources.truth_table(owned)
    assert truth.groupby("slide_id").size().tolist() == [3] * 5 and set(truth["kind"]) == {RARE}  # no subtypes known


def test_the_tables_are_read_as_any_cohorts(made, tmp_path):
    mosaic_questions.question_table(made, KINDS, SUBTYPES, [3, 4, 5, 6], seed=5).to_csv(tmp_path / "q.csv", index=False)
    mosaic_sources.manifest_table(made, source="here").to_csv(tmp_path / "m.csv", index=False)
    assert {q.slide_id for q in read_questions(tmp_path / "q.csv")} == {m.name for m in made}
    assert read_manifest(tmp_path / "m.csv").cases == {m.name: m.name for m in made}
    mosaic_sources.class_table(made).to_csv(tmp_path / "c.csv", index=False)
    mosaic_sources.split_table(made).to_csv(tmp_path / "splits_0.csv")
    labels, right = read_labels(tmp_path / "c.csv"), {}
    for kind, subtypes in SUBTYPES.items():
        classes = label_slides(labels, label=kind, stored=[m.name for m in made], most=None)
        right |= dict(zip(classes["slide_id"], classes["label"], strict=True))
        assert set(classes["label"]) == set(subtypes)
    assert right == {m.name: piece.subtype for m in made for piece in m.of(SUBTYPE)}
    (split,) = published_splits(tmp_path, [m.name for m in made], [0])
    assert [len(side) for side in split[1:]] == [sum(m.side == name for m in made) for name in mosaics.SIDES]
    assert set(split.test) == {m.name for m in made if m.side == "test"}
    caption = mosaic_questions.caption_table(made[:1])["Caption"][0]
    assert caption.split()[:2] == ["most:", made[0].of(MAIN)[0].kind]
