"""Tables out of Excel, R and editors: what is read from them, and which file an error names."""

import numpy as np
import openpyxl
import pandas as pd
import pytest
from shared_data import INPUTS

from slidesieve.cohort.manifest import read_manifest
from slidesieve.cohort.tables import is_missing, read_words
from slidesieve.provenance.table_files import read_names

WORDS = [["slide_id", "site"], ["S1", "Zürich"], ["S2", "Genève"]]


def text(rows, sign=",") -> str:
    return "\n".join(sign.join(row) for row in rows) + "\n"


def read(tmp_path, data: bytes | str, name="t.csv") -> list[list[str]]:
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    table = read_words(path)
    return [table.columns.tolist(), *table.to_numpy().tolist()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_signs_between_fields(tmp_path, capsys, encoding, sign, end):
    assert read(tmp_path, text(WORDS, sign).replace("\n", end).encode(encoding)) == WORDS
    told = capsys.readouterr().out
    assert ("t.csv: not UTF-8; read as Windows' cp1252" in told and "'Zürich'" in told) == (encoding == "cp1252")


def test_a_sign_that_the_header_does_not_use_is_a_character(tmp_path):
    assert read(tmp_path, 'slide_id,note\na,x;y;z\nb,"1,5"\n') == [["slide_id", "note"], ["a", "x;y;z"], ["b", "1,5"]]
    assert read(tmp_path, "slide_id;mpp\na;0,25\n") == [["slide_id", "mpp"], ["a", "0,25"]]


def test_what_excel_leaves_behind(tmp_path):
    """Trailing spaces, letters of two code points, blank rows, columns without a name that hold nothing."""
    data = "slide_id , site,slide_path,,\n a ,Zu\u0308rich,Zu\u0308.svs ,,\n,,,,\nb,x,\u00a0y ,,\n , ,,,\n"
    assert read(tmp_path, data) == [
        ["slide_id", "site", "slide_path"],
        ["a", "Zürich", "Zu\u0308.svs"],  # a path stays as the file system has it
        ["b", "x", "y"],
    ]


def test_what_r_writes(tmp_path):
    """write.csv numbers the rows in a column without a name, write.table in one that its header does not have."""
    expected = [["slide_id", "stage"], ["a", "NA"], ["b", "II"]]
    assert read(tmp_path, '"","slide_id","stage"\n"1","a",NA\n"2","b","II"\n') == expected
    assert read(tmp_path, '"slide_id","stage"\n"1","a",NA\n"2","b","II"\n') == expected
    assert read(tmp_path, '"slide_id"\t"stage"\n"1"\t"a"\tNA\n"2"\t"b"\t"II"\n') == expected
    named = read(tmp_path, '"","stage"\n"a","I"\n"b","II"\n')
    assert named == [["", "stage"], ["a", "I"], ["b", "II"]]  # names, not numbers: not ours to drop


def test_a_workbook(tmp_path, capsys):
    path = tmp_path / "t.xlsx"
    table = pd.DataFrame({"slide_id": ["007", "b", None], "age": [61, 7, np.nan], "mpp": [0.25, np.nan, np.nan]})
    with pd.ExcelWriter(path) as file:
        table.to_excel(file, index=False)
        table.to_excel(file, sheet_name="more")
    found = read_words(path)
    assert found.columns.tolist() == ["slide_id", "age", "mpp"]
    assert found.to_numpy().tolist() == [["007", "61", "0.25"], ["b", "7", ""]]
    assert "t.xlsx: the first of 2 sheets is read, 'Sheet1'" in capsys.readouterr().out
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match=r"t.xlsx: not a workbook of Excel .*save the sheet as UTF-8 CSV"):
        read_words(path)


def test_cells_merged_downwards_all_say_the_same_and_others_stay_empty(tmp_path):
    book = openpyxl.Workbook()
    rows = [("slide_id", "case_id", "note", "more"), ("a", "P1", "x", ""), ("b", None, None, ""), ("c", None, None, "")]
    for row in [*rows, ("d", "P2", "", "")]:
        book.active.append(row)
    for cells in ("B2:B4", "C2:D2", "A5:A6"):  # downwards, across, beyond the last row
        book.active.merge_cells(cells)
    book.save(tmp_path / "m.xlsx")
    found = read_words(tmp_path / "m.xlsx")
    assert found["case_id"].tolist()[:4] == ["P1", "P1", "P1", "P2"] and found["note"].tolist()[:3] == ["x", "", ""]
    assert found["slide_id"].tolist()[:4] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "it is empty"),
        (b"a,b\n1\n", "1 lines have fewer or more fields than line 1, the first is line 2 with 1 of 2"),
        (b"a,b\n1,2,3,4\n", "the first is line 2 with 4 of 2"),
        (b'a,b\n1,"2\n\n"\n3,4,5\n', "the first is line 5 with 3 of 2"),
        (b'a,b\n1,"2\n', "not a table"),
        (b"a,b\n\xff\0,2\n", "not a table"),
        (b"a,b\n\x81,2\n", "not a table"),  # in neither encoding
        (b"\xff\xfea", "not a table"),
        (b"a,b,a\n1,2,3\n", "1 columns stand twice .'a'."),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path, data, fault):
    with pytest.raises(ValueError, match=f"t.csv: .*{fault}"):
        read(tmp_path, data)


def test_words_that_say_there_is_no_value():
    missing = ["", " ", "NA", "n/a", "NaN", "null", "[Not Available]", "[Unknown]", "'--", "--", "#N/A", "not reported"]
    missing += [
        "N.A.",
        "<NA>",
        "NaT",
        "Unknown",
        "Not Applicable",
        "[Not Evaluated]",
        "Not Allowed To Collect",
        "\u2013",
        ".",
    ]
    missing += ["#REF!", "#VALUE!", "#NAME?"]
    values = ["None", "N", "0", "no", "Na+", "[a] b", "none", "N0", "-9", "#1", "unknown primary"]
    assert is_missing(pd.Series(missing)).all() and not is_missing(pd.Series(values)).any()


@pytest.mark.parametrize(
    "data",
    [
        "slide_id;site\r\nB\u00fchler;Z\u00fcrich\r\n".encode("utf-8-sig"),
        "slide_id\tsite\nB\u00fchler\tZ\u00fcrich\n".encode("utf-16-be").join([b"\xfe\xff", b""]),
        "slide_id;site\nB\u00fchler;Z\u00fcrich\n".encode("cp1252"),
        '"slide_id","site"\n"Bu\u0308hler\u00a0"," Zu\u0308rich"\n'.encode("utf-8-sig"),
        "slide_id,site\rB\u00fchler,Z\u00fcrich\r".encode(),
    ],
)
def test_one_table_in_other_hands(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    assert read_names(tmp_path / "t.csv") == ["slide_id", "site"]
    assert read_words(tmp_path / "t.csv").to_dict("list") == {"slide_id": ["B\u00fchler"], "site": ["Z\u00fcrich"]}


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["utf8_bom", "crlf_bom", "semicolon", "cp1252", "utf16", "commas", "comma_decimal", "trailing", "backslash"]
)
def test_manifests_of_the_field_are_read(name, monkeypatch):
    monkeypatch.delenv("DATA_ROOT", raising=False)
    manifest = read_manifest(INPUTS / "manifest-encodings" / f"{name}.csv")
    table = manifest.table
    assert table["slide_id"].tolist() == ["S1", "S2", "S3"] and set(table["site"]) == {"Universitätsklinik Zürich"}
    assert table["slide_path"].tolist() == [f"slides/S{i}.tif" for i in (1, 2, 3)]
    assert table["split"].tolist() == ["train", "val", "test"]
    assert (table["mpp"][0] == 0.25) == (name == "comma_decimal")


@pytest.mark.shared
def test_manifests_of_the_field_that_cannot_be_read_say_why():
    assert read_manifest(INPUTS / "manifest-encodings/nfd.csv").table["slide_id"][0] == "B\u00fchler-1"
    with pytest.raises(ValueError, match=r"drive.csv: 3 fault.*\n.*row 2 \(S1\): 'D:.*is on a drive of Windows"):
        read_manifest(INPUTS / "manifest-encodings/drive.csv")
