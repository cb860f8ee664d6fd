"""Tables that people write: manifests, questions, captions, labels."""

import warnings
from pathlib import Path

import pandas as pd


def read_words(path: str | Path) -> pd.DataFrame:
    """Read a CSV as strings ("NA" and "None" are words here). Raises ValueError naming the file if it is no table."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # fields beyond line 1's would be dropped
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except (ValueError, pd.errors.ParserWarning, OverflowError) as error:
        found = str(error).strip() or type(error).__name__
        raise ValueError(
            f"{path}: not a table ({found}); expected CSV in UTF-8, each line with as many fields as line 1; "
            "save it again as UTF-8 CSV"
        ) from error
    short = table.isna().any(axis=1)
    if short.any():
        raise ValueError(
            f"{path}: {short.sum()} lines have fewer fields than line 1, the first is row {int(short.argmax()) + 1} of "
            "the table; expected as many, empty ones included; complete it"
        )
    return table
