"""Where the real slides, tiles and bags lie that some tests read: ../shared/data, or DATA_SHARED."""

import os
from pathlib import Path

SHARED = Path(os.environ.get("DATA_SHARED") or Path(__file__).parents[2] / "shared" / "data")
INPUTS = SHARED.parent / "inputs"  # small files that went wrong somewhere
