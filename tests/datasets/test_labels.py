"""A label table becomes folds without shared patients, and questions without a shortcut."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from shared_data import INPUTS, SHARED

from slidesieve.cohort.manifest import read_manifest
from slidesieve.cohort.splits import fold_numbers, leaks, split_of
from slidesieve.datasets.labels import label_slides, manifest_table, open_store, question_table, read_labels
from slidesieve.datasets.questions import in_cohort, read_questions
from slidesieve.evaluation.floors import longest_option, majority_letter
from slidesieve.features.bag import make_bag
from slidesieve.features.bag_files import load_bags
from slidesieve.features.store import PackedStore, write_packed


def labels(s=75, classes=("KIRC", "PRCC", "CHRCC"), shares=(0.6, 0.3, 0.1)):
    generator = np.random.default_rng(4)
    cases = generator.integers(0, 2 * s // 3, size=s)
    by_case = generator.choice(classes, size=s, p=shares)
    return pd.DataFrame(
        {
            "slide_id": [f"case{case}-{i}.svs" for i, case in enumerate(cases)],
            "case_id": [f"case{case}" for case in cases],
            "kind": by_case[cases],
        }
    )


def cohort(table, **options):
    stored = table["slide_id"].str.removesuffix(".svs").tolist()
    slides = label_slides(table, label="kind", stored=stored)
    return slides.assign(fold=fold_numbers(slides, n_folds=5, seed=0), **options)


def test_slides_are_matched_without_suffix_and_without_label_dropped():
    table = labels(7)
    table.loc[2, "kind"] = ""
    stored = [name.removesuffix(".svs") for name in table["slide_id"][:5]] + ["another"]
    slides = label_slides(table, label="kind", stored=stored, min_coverage=0.6)
    assert sorted(slides["slide_id"]) == slides["slide_id"].tolist() == sorted(stored[i] for i in (0, 1, 3, 4))
    assert slides["site"].tolist() == [""] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="case_id"), "no column case_id; got slide_id, kind"),
        (lambda t: t.assign(slide_id="x" + t["slide_id"]), "slides with a kind: 75 asked for, 0 found, 75 lost: 'x"),
        (lambda t: pd.concat([t, t[:1]]), "1 slides have two rows"),
        (lambda t: t.assign(kind="one"), r"got 1 values \(one\); expected 2 to 4"),
        (lambda t: t.assign(kind=[str(i % 5) for i in range(75)]), "got 5 values"),
    ],
)
def test_unusable_labels_are_refused(change, message):
    stored = labels()["slide_id"].str.removesuffix(".svs").tolist()
    with pytest.raises(ValueError, match=message):
        label_slides(change(labels()), label="kind", stored=stored)


def test_files_not_named_are_asked_for():
    with pytest.raises(ValueError, match="set parameter labels"):
        read_labels(None)
    with pytest.raises(ValueError, match="set parameter store"):
        open_store(None)


def test_folds_keep_a_case_together_and_spread_labels():
    slides = cohort(labels(375))
    assert slides.groupby("case_id")["fold"].nunique().max() == 1
    assert sorted(slides["fold"].unique()) == [0, 1, 2, 3, 4]
    share = pd.crosstab(slides["fold"], slides["label"], normalize="index")
    assert (share.max() - share.min()).max() < 0.1


def test_letters_are_balanced_within_each_label_and_the_text_says_nothing(tmp_path):
    slides = cohort(labels())
    table = question_table(slides, text="Which tumour is present?", label="kind", seed=0)
    table.to_csv(tmp_path / "questions.csv", index=False)
    questions = read_questions(tmp_path / "questions.csv")
    assert len({question.text for question in questions}) == 1
    assert {tuple(sorted(question.options)) for question in questions} == {("CHRCC", "KIRC", "PRCC")}
    assert [q.options[q.answer] for q in questions] == slides["label"].tolist()
    for label in ("KIRC", "PRCC", "CHRCC"):
        letters = Counter(q.answer for q in questions if q.options[q.answer] == label)
        assert max(letters.values()) - min(letters.values()) <= 1
    key = np.array([question.answer for question in questions])
    assert (np.array(majority_letter(questions, questions)) == key).mean() < 0.36
    assert set(table["Tumor"]) == {""}


def test_same_seed_same_questions_and_another_seed_others():
    slides = cohort(labels())
    first = question_table(slides, text="?", label="kind", seed=0)
    assert first.equals(question_table(slides, text="?", label="kind", seed=0))
    assert not first.equals(question_table(slides, text="?", label="kind", seed=1))


def test_the_manifest_reads_back_and_finds_the_store_wherever_the_folder_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    slides, store = cohort(labels()), tmp_path / "features" / "store.h5"
    store.parent.mkdir()
    write_packed(
        store, [make_bag(name, np.full((3, 5), i, float), None, {}) for i, name in enumerate(slides["slide_id"])]
    )
    folder = tmp_path / "runs" / "cohort"
    folder.mkdir(parents=True)
    table = manifest_table(slides, label="kind", store=store, root=folder, source="a test")
    table.to_csv(folder / "manifest.csv", index=False)
    manifest = read_manifest(folder / "manifest.csv")
    assert manifest.table["feature_path"].unique().tolist() == ["../../features/store.h5"]
    split = split_of(manifest, 3)
    test = split.index[split == "test"].tolist()
    assert len(test) == (slides["fold"] == 3).sum()
    assert load_bags(manifest, None, test[:1])[test[0]].x[0, 0] == slides["slide_id"].tolist().index(test[0])


def test_leaks_counts_shared_patients_by_hand(tmp_path):
    """Patient TCGA-05-4244 has slides in folds 0 and 2 under two case_ids: the barcode finds what the table hides."""
    names = ["TCGA-05-4244-01Z-00-DX1", "TCGA-05-4250-01Z-00-DX1", "TCGA-05-4244-01Z-00-DX2", "x"]
    table = pd.DataFrame({"slide_id": names, "case_id": list("abcd"), "site": "", "label": "y", "fold": [0, 1, 2, 2]})
    rows = manifest_table(table, label="kind", store=tmp_path / "s.h5", root=tmp_path, source="")
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    counted = leaks(read_manifest(tmp_path / "manifest.csv"), n_folds=3)
    assert counted["shared_cases"].tolist() == [0, 0, 0]
    assert counted["shared_barcodes"].tolist() == [1, 0, 0]  # fold 0 tests it, trains on 2; fold 2 validates on 0


@pytest.mark.shared
@pytest.mark.parametrize(("store", "table", "counts"), [("LUNG", "lung", (958, 2)), ("KIDNEY", "kidney", (905, 3))])
def test_real_cohorts(tmp_path, store, table, counts):
    """The figures of the data's README (958 lung, 905 kidney slides); no patient in two splits of any fold (I49)."""
    path = SHARED / "mil/hipt_tcga" / f"{store}.h5"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    label_table = pd.read_csv(path.parent / f"labels/tcga_{table}_subtype.csv", dtype=str, keep_default_na=False)
    slides = label_slides(label_table, label="oncotree_code", stored=PackedStore(path).slide_ids)
    assert (len(slides), slides["label"].nunique()) == counts
    slides = slides.assign(fold=fold_numbers(slides, n_folds=5, seed=0))
    manifest_table(slides, label="oncotree_code", store=path, root=tmp_path, source="HIPT").to_csv(
        tmp_path / "manifest.csv", index=False
    )
    question_table(slides, text="Which tumour is present?", label="oncotree_code", seed=0).to_csv(
        tmp_path / "questions.csv", index=False
    )
    manifest, questions = read_manifest(tmp_path / "manifest.csv"), read_questions(tmp_path / "questions.csv")
    assert in_cohort(questions, manifest, what="questions", least=1) == questions
    table = leaks(manifest, n_folds=5)
    assert (table[["shared_cases", "shared_barcodes"]] == 0).all(axis=None)  # I49
    assert table["test_slides"].sum() == len(slides)
    assert table["test_slides"].between(0.17 * len(slides), 0.23 * len(slides)).all()
    key = np.array([question.answer for question in questions])
    assert np.bincount(key).max() / len(key) < 1 / counts[1] + 0.01
    assert (np.array(longest_option(questions)) == key).mean() < 0.65


def test_words_for_no_value_are_no_class_and_are_told(capsys):
    table = labels(40, classes=("I", "II"), shares=(0.5, 0.5)).assign(case_id=[f"c{i}" for i in range(40)])
    table.loc[:7, "kind"] = ["[Not Available]", "nan", "NA", "", "[Unknown]", "--", "N/A", "[Not Applicable]"]
    stored = table["slide_id"].str.removesuffix(".svs").tolist()
    slides = label_slides(table, label="kind", stored=stored)
    assert len(slides) == 32 and sorted(slides["label"].unique()) == ["I", "II"]
    told = capsys.readouterr().out
    assert "labels: 8 of 40 rows have no kind ('', '--', 'N/A', 'NA', '[Not Applicable]', '[Not Available]', " in told
    assert "slides with a kind: 32 asked for, 32 found (32 but for the file's extension), none lost" in told


def test_labels_that_lost_their_zeros_find_their_slides_and_keep_the_stores_name():
    table = labels(9).assign(slide_id=[str(i) for i in range(9)])
    slides = label_slides(table, label="kind", stored=[f"{i:03d}" for i in range(9)])
    assert slides["slide_id"].tolist() == [f"{i:03d}" for i in range(9)]
    assert slides["case_id"].tolist() == table["case_id"].tolist()
    with pytest.raises(ValueError, match=r"9 asked for, 5 found .*4 lost: '5' .*share of 0.56, expected 0.9"):
        label_slides(table, label="kind", stored=[f"{i:03d}" for i in [*range(5), *range(10, 14)]])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "table", "n"), [("uuid-suffix", "labels.csv", 40), ("zero-padded", "labels_excel.csv", 60)]
)
def test_no_slide_of_the_fields_own_tables_is_lost(folder, table, n):
    files = sorted(path.stem for path in (INPUTS / folder / "feats").glob("*.h5"))
    rows = read_labels(INPUTS / folder / table)
    slides = label_slides(rows, label=rows.columns[-1], stored=files)
    assert slides["slide_id"].tolist() == files and len(files) == n


@pytest.mark.shared
def test_not_available_is_no_stage():
    rows = read_labels(INPUTS / "not-available/labels.csv")
    slides = label_slides(rows, label="stage", stored=rows["slide_id"].tolist())
    assert len(rows) == 40 and len(slides) == 32
