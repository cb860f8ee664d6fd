"""Named tasks, from files in the public tables' own columns."""

import pandas as pd
import pytest

from slidesieve.datasets.labels import label_slides, task_labels


def panda() -> pd.DataFrame:
    rows = [(f"img{i}", ("karolinska", "radboud")[i % 2], str(i % 6), "3+3") for i in range(13)]
    return pd.DataFrame(rows, columns=["image_id", "data_provider", "isup_grade", "gleason_score"])


def tcga(*codes: str) -> pd.DataFrame:
    rows = [(f"TCGA-A{i // 2}", f"TCGA-A{i // 2}-DX{i % 2}.uuid.svs", code) for i, code in enumerate(codes)]
    return pd.DataFrame(rows, columns=["case_id", "slide_id", "oncotree_code"])


def test_panda_has_six_grades_and_a_patient_a_slide():
    table = label_slides(
        task_labels(panda(), "panda"), label="isup_grade", stored=[f"img{i}" for i in range(13)], most=None
    )
    assert sorted(table["label"].unique()) == list("012345") and (table["case_id"] == table["slide_id"]).all()
    assert set(table["site"]) == {"karolinska", "radboud"}


def test_other_codes_are_left_out_and_suffixes_dropped():
    labels = task_labels(tcga("IDC", "ILC", "MDLC", "IDC"), "tcga-brca")
    stored = [name.removesuffix(".svs") for name in labels["slide_id"]]
    table = label_slides(labels, label="oncotree_code", stored=stored)
    assert table["label"].tolist() == ["IDC", "ILC", "IDC"] and table["case_id"].nunique() == 2


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("pandas", panda(), "expected one of panda, tcga-brca, tcga-nsclc"),
        ("panda", tcga("IDC"), "no column image_id, isup_grade; got case_id, slide_id, oncotree_code"),
        ("tcga-nsclc", tcga("LUAD", "LUAD"), "no slide with oncotree_code LUSC; expected LUAD, LUSC"),
    ],
)
def test_a_table_that_is_not_the_tasks_is_refused(name, labels, message):
    with pytest.raises(ValueError, match=message):
        task_labels(labels, name)
