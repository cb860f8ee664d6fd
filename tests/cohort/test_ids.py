"""Where ids meet: who is found, by which rule, who is lost, and that no two are taken for one."""

from itertools import permutations

import pytest
from shared_data import INPUTS

from slidesieve.cohort.ids import BY_BARCODE, LOST_DIGITS, RULES, match, matched, tcga_case

UUID = "6E8D3C1A-4F2B-4C77-9E5B-0123456789AB"
DX1 = "TCGA-05-0001-01Z-00-DX1"


@pytest.mark.parametrize(
    ("asked", "known", "rule"),
    [
        ("a b", "a b", 0),
        (" s1", "s1", 1),
        ("Zu\u0308rich", "Zürich", 1),
        ("s1.svs", "s1", 2),
        ("s1", "S1.NDPI".replace("S1", "s1"), 2),
        ("s1.ome.tiff", "s1.ome", 2),
        (DX1, f"{DX1}.{UUID}", 3),
        (f"{DX1}.{UUID.lower()}.svs", DX1, 3),
        (f"{DX1}.{UUID}", f"{DX1}.{UUID}_0_1024.npy", 3),
        (f"case 7.{UUID}", "case 7", 3),
        ("s1", "S1", 4),
        ("5726", "005726", 6),
        ("5726.0", "5726", 6),
        ("0", "000", 6),
        ("12.00", "0012.svs", 6),
        ("\u200bs1\ufeff", "s1", 1),
        ('="005726"', "005726", 1),  # as text, for Excel to leave it alone
        ("'005726", "005726", 1),
        (f"{DX1}_{UUID}.h5", DX1, 3),
        (f"case7-{UUID}", "case7", 3),
        (f"{UUID}.{DX1}", DX1, 3),
        (f"{UUID}_case7.svs", "case7", 3),
        (f"{UUID}/case7.svs", "case7", 5),  # as the GDC's client leaves them
        ("slides\\b\\S1.svs", "s1", 5),
    ],
)
def test_each_loosening_counts_by_its_name(asked, known, rule):
    for one, other in ((asked, known), (known, asked)):
        found = match([one, "x"], [other, "y"])
        assert found.found == {one: other} and found.how == {RULES[rule][0]: 1}
        assert found.lost == {"x": "no such id"} and found.coverage == 0.5


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        (["1.svs"], ["1.svs.h5", "1.tif"]),  # two are alike
        (["1.svs", "1.tif"], ["1"]),
        (["01", "001"], ["1"]),
        (["1"], ["01", "001"]),
        (["S1"], ["s1", "S1.svs", "S1.tif"]),
        (["S1"], ["a/S1.svs", "b/S1.svs"]),
        (["c7"], [f"{UUID}_c7", f"{UUID.replace('6', '7')}_c7"]),
        ([UUID], [UUID.replace("6", "7")]),
        ([f"{DX1}.{UUID}", DX1 + ".svs"], [f"{DX1}.{UUID.replace('6', '7')}"]),
        ([""], [" "]),
        (["TCGA-05-0001"], [DX1, DX1[:-1] + "2"]),
        ([DX1], [DX1[:-1] + "2"]),  # another slide of the patient is another slide
        ([DX1, DX1[:-1] + "2"], ["TCGA-05-0001"]),
        (["TCGA-05-000"], [DX1]),
    ],
)
def test_two_are_never_taken_for_one(asked, known):
    for a in permutations(asked):
        for b in permutations(known):
            assert match(a, b).found == {}


def test_what_a_spreadsheet_wrote_with_an_exponent_is_lost_and_said_to_be():
    """1.2E+05 may be 120000 or 120400: no two are taken for one."""
    found = match(["1.2E+05", "1,23457E+11", "12e4"], ["120000", "123456789012"])
    assert found.found == {} and found.lost["12e4"] == "no such id"
    assert found.lost["1.2E+05"] == found.lost["1,23457E+11"] == LOST_DIGITS
    assert match(["1.2E+05"], ["1.2E+05"]).how == {RULES[0][0]: 1}


def test_what_is_exact_is_not_given_to_another():
    found = match(["S1.svs", "S1"], ["S1"])
    assert found.found == {"S1": "S1"} and "'S1' is alike, and another's" in found.lost["S1.svs"]


def test_a_patient_and_her_only_slide():
    found = match(["TCGA-05-0001", "TCGA-05-0002"], [f"{DX1}.{UUID}", "TCGA-05-0003-01Z", "TCGA-05-0002"])
    assert found.found == {"TCGA-05-0001": f"{DX1}.{UUID}", "TCGA-05-0002": "TCGA-05-0002"}
    assert found.how == {RULES[0][0]: 1, BY_BARCODE: 1}
    assert match([DX1], ["TCGA-05-0001"]).how == {BY_BARCODE: 1}
    two = match(["TCGA-05-0001"], [DX1, DX1[:-1] + "2"])
    assert two.lost == {"TCGA-05-0001": f"2 of this patient: {DX1}, {DX1[:-1]}2"}


def test_the_line_of_coverage(capsys):
    known = [f"s{i}" for i in range(7)]
    assert matched([f"s{i}.svs" for i in range(7)], known, what="labels") == {f"s{i}.svs": f"s{i}" for i in range(7)}
    assert capsys.readouterr().out == "labels: 7 asked for, 7 found (7 but for the file's extension), none lost\n"
    asked = [*known[:5], "x1", "x2", "x3", "x4"]
    with pytest.raises(ValueError) as error:
        matched(asked, known, what="labels")
    assert str(error.value).startswith(
        "labels: 9 asked for, 5 found (5 as they are), 4 lost: 'x1' (no such id); 'x2' (no such id); 'x3' (no such "
        "id); and 1 more; a share of 0.56, expected 0.9 or more (min_coverage); those known are like 's0'; correct"
    )
    assert len(matched(asked, known, what="labels", least=0.5)) == 5
    few = ["s0", "s1"]  # a table of all slides beside the features of two
    assert matched(known, few, what="labels", of_smaller=True) == {"s0": "s0", "s1": "s1"}
    with pytest.raises(ValueError, match=r"a share of 0\.00"):
        matched(asked, [], what="labels", of_smaller=True)


def test_ten_thousands_of_ids_are_matched_in_linear_time():
    n = 30_000
    counted = []

    class Id(str):
        def casefold(self):
            counted.append(1)
            return str.casefold(self)

    asked = [Id(f"TCGA-{i % 97:02d}-{i:04d}-01Z-00-DX1.{UUID}") for i in range(n)]
    found = match(asked, [str(name) for name in asked[: n // 2]])
    assert len(found.found) == n // 2 and len(found.lost) == n // 2


def test_a_patient_is_a_barcodes():
    assert tcga_case(DX1) == "TCGA-05-0001" and tcga_case("slide-7") == ""


@pytest.mark.shared
def test_zeros_that_excel_ate_and_uuids_of_the_gdc():
    from slidesieve.cohort.tables import read_words

    files = [path.stem for path in sorted((INPUTS / "zero-padded/feats").glob("*.h5"))]
    found = match(read_words(INPUTS / "zero-padded/labels_excel.csv")["slide_id"], files)
    assert len(found.found) == len(files) == 60 and found.how["but for leading zeros"] == 35
    files = [path.stem for path in sorted((INPUTS / "uuid-suffix/feats").glob("*.h5"))]
    found = match(read_words(INPUTS / "uuid-suffix/labels.csv")["slide_id"], files)
    assert len(found.found) == len(files) == 40 and found.how["but for a UUID"] == 25
