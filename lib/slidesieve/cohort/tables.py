"""Tables that people write: manifests, questions, captions, labels; out of Excel, R, or an editor.

Text is UTF-8, UTF-16 or, where it is neither, Windows' cp1252 (and that is said); fields stand between commas,
semicolons or tabs; of an `.xlsx` the first sheet is read. Cells are stripped, and their letters composed (NFC), paths
excepted; rows without a word are left out, and unnamed columns that are empty or count the rows.
"""

import csv
import io
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd

DELIMITERS = ",;\t"
SHEET = ".xlsx"
UNPACKED_BYTES = 1 << 28  # of a workbook
MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "-", "--", "'--", "not available", "not reported", "unknown"}


def read_words(path: str | Path) -> pd.DataFrame:
    """Read a table as strings ("NA" and "None" are words here). Raises ValueError naming the file if it is no table."""
    path = Path(path)
    header, cells = _sheet(path) if path.suffix.lower() == SHEET else _text(path)
    header = [unicodedata.normalize("NFC", name.strip()) for name in header]
    columns = [
        [word.strip() if name.endswith("_path") else unicodedata.normalize("NFC", word.strip()) for word in column]
        for name, column in zip(header, cells, strict=True)
    ]
    kept = [
        i for i, (name, column) in enumerate(zip(header, columns, strict=True)) if name or _says(column, first=not i)
    ]
    header, columns = [header[i] for i in kept], [columns[i] for i in kept]
    if twice := [name for name, n in Counter(header).items() if n > 1]:
        raise ValueError(f"{path}: {len(twice)} columns stand twice ({twice[0]!r}); expected each once; rename one")
    table = pd.DataFrame(dict(zip(header, columns, strict=True)), columns=header, dtype=object)
    return table[(table != "").any(axis=1)].reset_index(drop=True)


def is_missing(words: pd.Series) -> pd.Series:
    """Which cells say that there is no value: empty, NA, nan, [Not Available] and their kin. None may be a class."""
    plain = words.str.strip().str.casefold()
    return plain.isin(MISSING) | plain.str.fullmatch(r"\[.*\]")


def _says(column: list[str], *, first: bool) -> bool:
    """Whether a column without a name holds words, other than the first that counts the rows."""
    counts = [[str(i + start) for i in range(len(column))] for start in (0, 1)] if first else []
    return any(column) and column not in counts


def _text(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names in line 1, and the columns."""
    try:
        text = _decoded(path)
        delimiter = max(DELIMITERS, key=lambda sign: len(next(csv.reader(io.StringIO(text), delimiter=sign), [])))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, fields) for fields in reader if fields]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}: not a table ({error}); expected CSV; save it again as UTF-8 CSV") from error
    if not lines:
        raise ValueError(f"{path}: it is empty; expected a table with names in line 1; save it again as UTF-8 CSV")
    (_, header), *rows = lines
    if rows and len(rows[0][1]) == len(header) + 1:  # R's write.table does not name its names of rows
        header = ["", *header]
    uneven = [(number, len(fields)) for number, fields in rows if len(fields) != len(header)]
    if uneven:
        raise ValueError(
            f"{path}: {len(uneven)} lines have fewer or more fields than line 1, the first is line {uneven[0][0]} with "
            f"{uneven[0][1]} of {len(header)}; expected as many, empty ones included; complete it"
        )
    return header, [list(column) for column in zip(*(fields for _, fields in rows), strict=True)] or [
        [] for _ in header
    ]


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8" or b"\0" in data:
            raise
    text = data.decode("cp1252")
    odd = next(word for word in text.replace(",", " ").replace(";", " ").split() if not word.isascii())
    print(f"{path}: not UTF-8; read as Windows' cp1252, in which a word of it is {odd[:40]!r}", flush=True)
    return text


def _sheet(path: Path) -> tuple[list[str], list[list[str]]]:
    """The first sheet of a workbook; numbers as they would be typed."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > UNPACKED_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes")
        sheets = pd.ExcelFile(path, engine="openpyxl")
        table = sheets.parse(sheets.sheet_names[0], header=None, dtype=object, keep_default_na=False)
    except Exception as error:  # a damaged workbook raises anything
        found = str(error).strip() or type(error).__name__
        raise ValueError(f"{path}: not a workbook of Excel ({found}); save the sheet as UTF-8 CSV") from error
    if table.empty:
        raise ValueError(f"{path}: its first sheet, {sheets.sheet_names[0]!r}, is empty; save the sheet as UTF-8 CSV")
    if len(sheets.sheet_names) > 1:
        print(f"{path}: the first of {len(sheets.sheet_names)} sheets is read, {sheets.sheet_names[0]!r}", flush=True)
    words = table.map(lambda cell: "" if pd.isna(cell) else str(cell))
    return words.iloc[0].tolist(), [words[i].tolist()[1:] for i in words]
