"""Files of tables that people write, out of Excel, R or an editor: names and columns, as words.

Text is UTF-8, UTF-16 or, where it is neither, Windows' cp1252 (and that is said); fields stand between commas,
semicolons or tabs; of an `.xlsx` the first sheet is read, and cells that are merged downwards all say what the first
of them does. Cells are stripped, and their letters composed (NFC), paths
excepted; rows without a word are left out, and unnamed columns that are empty or count the rows.
"""

import csv
import io
import re
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

DELIMITERS = ",;\t"
SHEET = ".xlsx"
UNPACKED_BYTES = 1 << 28  # of a workbook
HEAD_BYTES = 1 << 16  # in which line 1 ends
MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def read_columns(path: Path) -> dict[str, list[str]]:
    """Read a table's columns by name. Raises ValueError naming the file if it is no table."""
    header, cells = _sheet(path) if path.suffix.lower() == SHEET else _text(path)
    columns = [
        [_composed(word, is_path=name.endswith("_path")) for word in column]
        for name, column in zip(header, cells, strict=True)
    ]
    kept = [i for i, name in enumerate(header) if name or _says(columns[i], first=not i)]
    if twice := [name for name, n in Counter(header[i] for i in kept).items() if n > 1]:
        raise ValueError(f"{path}: {len(twice)} columns stand twice ({twice[0]!r}); expected each once; rename one")
    filled = [any(row) for row in zip(*columns, strict=True)]
    return {header[i]: [word for word, is_filled in zip(columns[i], filled, strict=True) if is_filled] for i in kept}


def read_names(path: Path) -> list[str]:
    """Read a table's names of columns, of a text its beginning alone."""
    if path.suffix.lower() == SHEET:
        return _sheet(path)[0]
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    text = _in_lines(head.decode(_encoding(head), errors="replace"))
    return [_composed(name) for name in next(csv.reader(io.StringIO(text), delimiter=_delimiter(text)), [])]


def posix(path: str) -> str:
    """A path as it is written here; one of a Windows drive stays as it is."""
    return path if is_of_windows(path) else path.replace("\\", "/")


def is_of_windows(path: str) -> bool:
    """Whether a path begins at a drive or a share of Windows."""
    return bool(re.match(r"[A-Za-z]:[\\/]|\\\\", path))


def split_part(path: str) -> tuple[str, str]:
    """The file that a feature_path names, and what of it: `slide.h5#uni_v2` is one encoder's features of several."""
    named = re.fullmatch(r"(.+\.(?:h5|hdf5))#([\w.-]+)", path, flags=re.IGNORECASE)
    return (named[1], named[2]) if named else (path, "")


def _composed(word: str, *, is_path: bool = False) -> str:
    return word.strip() if is_path else unicodedata.normalize("NFC", word.strip())


def _says(column: list[str], *, first: bool) -> bool:
    """Whether a column without a name holds words, other than the first that counts the rows."""
    counts = [[str(i + start) for i in range(len(column))] for start in (0, 1)] if first else []
    return any(column) and column not in counts


def _text(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names in line 1, and the columns."""
    try:
        text = _in_lines(_decoded(path))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
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
    columns = zip(*(fields for _, fields in rows), strict=True)
    return list(map(_composed, header)), [list(column) for column in columns] or [[] for _ in header]


def _delimiter(text: str) -> str:
    """The sign that makes most of line 1."""
    return max(DELIMITERS, key=lambda sign: len(next(csv.reader(io.StringIO(text), delimiter=sign), [])))


def _in_lines(text: str) -> str:
    """With ends of lines that a reader knows, where an old Mac's are the only ones."""
    return text if "\n" in text else text.replace("\r", "\n")


def _encoding(data: bytes) -> str:
    return next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError:
        if _encoding(data) != "utf-8" or b"\0" in data:
            raise
    text = data.decode("cp1252")
    odd = next(word for word in text.replace(",", " ").replace(";", " ").split() if not word.isascii())
    print(f"{path}: not UTF-8; read as Windows' cp1252, in which a word of it is {odd[:40]!r}", flush=True)
    return text


def _sheet(path: Path) -> tuple[list[str], list[list[str]]]:
    """The first sheet of a workbook; numbers as they would be typed."""
    from openpyxl import load_workbook  # half a second to import

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
            if size > UNPACKED_BYTES:
                raise ValueError(f"it unpacks to {size:,} bytes")
            sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
            merged = any(b"<mergeCell " in archive.read(name) for name in sheets)
        book = load_workbook(path, read_only=not merged, data_only=True)  # read_only does not tell what is merged
        sheet = book.worksheets[0]
        rows = [["" if cell is None else str(cell) for cell in row] for row in sheet.iter_rows(values_only=True)]
        for cells in sheet.merged_cells.ranges if merged else ():
            for row in rows[cells.min_row : cells.max_row] if cells.min_row > 1 else ():  # names are not cells
                row[cells.min_col - 1] = rows[cells.min_row - 1][cells.min_col - 1]
    except Exception as error:  # a damaged workbook raises anything
        found = str(error).strip() or type(error).__name__
        raise ValueError(f"{path}: not a workbook of Excel ({found}); save the sheet as UTF-8 CSV") from error
    if not rows:
        raise ValueError(f"{path}: its first sheet, {book.sheetnames[0]!r}, is empty; save the sheet as UTF-8 CSV")
    if len(book.sheetnames) > 1:
        print(f"{path}: the first of {len(book.sheetnames)} sheets is read, {book.sheetnames[0]!r}", flush=True)
    wide = max(map(len, rows))
    header, *rest = [row + [""] * (wide - len(row)) for row in rows]
    return list(map(_composed, header)), [list(column) for column in zip(*rest, strict=True)] or [[] for _ in header]
