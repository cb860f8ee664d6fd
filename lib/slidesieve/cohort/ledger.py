"""The ledger of slides: a CSV row for each slide tried, appended when the slide ends, so that a kill loses none.

A slide tried again adds a row, and the last one counts.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.provenance.files import written_whole

TEXT = ("slide_id", "status", "error", "message")
LOST = "SlideLost"  # the error of a slide that an earlier run had and that cannot be had now


class Outcome(NamedTuple):
    """A row: status ok, failed or skipped; error is the class of the fault; n_dropped counts unreadable tiles.

    Of its `seconds`, an encoder had nothing to do in `waited`; rows of older ledgers do not say.
    """

    slide_id: str
    status: str
    error: str
    message: str
    n_tiles: int
    n_dropped: int
    seconds: float
    waited: float = 0.0


class Ledger:
    """A CSV file of outcomes."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def append(self, outcome: Outcome) -> None:
        """Add a row at once; line breaks in messages become spaces."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            if not file.tell():
                file.write(",".join(Outcome._fields) + "\n")
            row = (" ".join(v.split()) if isinstance(v, str) else v for v in outcome)
            csv.writer(file, lineterminator="\n").writerow(row)

    def rows(self) -> pd.DataFrame:
        """Return the last row of each slide, in the order of their last rows; a line torn by a kill is left out."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1] or ",".join(Outcome._fields) + "\n"
        table = pd.read_csv(io.StringIO(whole), keep_default_na=False, dtype=dict.fromkeys(TEXT, str))
        older = {name: value for name, value in Outcome._field_defaults.items() if name not in table}
        return table.assign(**older).drop_duplicates("slide_id", keep="last").reset_index(drop=True)

    def settle(self, slide_ids: Iterable[str], statuses: tuple[str, ...] = ("ok", "failed", "skipped")) -> pd.DataFrame:
        """Rewrite the file with one row a slide, in the order of `slide_ids` and none but those; return the rows.

        A lost slide's row stays, whatever `statuses` says: that an earlier run had it must not be forgotten.
        """
        rows = self.rows()
        rows = rows[rows["status"].isin(statuses) | (rows["error"] == LOST)].set_index("slide_id", drop=False)
        rows = rows.loc[[s for s in slide_ids if s in rows.index]].reset_index(drop=True)
        with written_whole(self.path) as aside:
            rows.to_csv(aside, index=False, lineterminator="\n")
        return rows
