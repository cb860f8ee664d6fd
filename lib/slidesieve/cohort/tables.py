"""Tables that people write: manifests, questions, captions, labels (what files are read: `provenance.table_files`)."""

from pathlib import Path

import pandas as pd

from slidesieve.provenance.table_files import read_columns

MISSING = {"", "na", "n/a", "n.a.", "<na>", "nan", "nat", "null", "missing", "unknown", "no data", "not available"}
MISSING |= {"not applicable", "not reported", "not evaluated", "not collected", "not allowed to collect"}  # GDC's
MISSING |= {"-", "--", "'--", "\u2013", "\u2014", ".", "?"}
MISSING |= {"#na", "#n/a", "#ref!", "#value!", "#name?", "#div/0!", "#num!", "#null!"}  # a spreadsheet's


def read_words(path: str | Path) -> pd.DataFrame:
    """Read a table as strings ("NA" and "None" are words here). Raises ValueError naming the file if it is no table."""
    columns = read_columns(Path(path))
    return pd.DataFrame(columns, columns=list(columns), dtype=object)


def is_missing(words: pd.Series) -> pd.Series:
    """Which cells say that there is no value: empty, NA, nan, [Not Available] and their kin. None may be a class."""
    plain = words.str.strip().str.casefold()
    return plain.isin(MISSING) | plain.str.fullmatch(r"\[.*\]")
