"""Order, fan-out and where copies go: notebooks as stages, stages as an experiment, an experiment as a report."""

import sys

# jsonschema, which nbformat and Prefect import, looks for this checker of IRIs: its parser takes 2 s at each import.
sys.modules.setdefault("rfc3987_syntax", None)
