"""Tiny notebooks for the tests of receipts and flows: a parameters cell, begin, a body, finish."""

import json
from pathlib import Path


def write_notebook(path: Path, *, parameters: str = "", body: str = "", outputs: str = "[]", prelude: str = "") -> Path:
    """Write a stage notebook; `prelude` goes into the cell of imports."""
    cells = [
        _cell(f"from slidesieve.provenance import receipts\n{prelude}"),
        _cell(f'out_dir: str = "runs/manual/tiny"  # run: folder\n{parameters}', tags=["parameters"]),
        _cell(f'stage = receipts.begin("{path.stem}", globals())'),
        _cell(body),
        _cell(f"stage.finish(outputs={outputs})"),
    ]
    return write_cells(path, cells)


def write_cells(path: Path, cells: list[dict]) -> Path:
    """Write cells as a notebook with stable ids."""
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _cell(source: str, tags: list[str] | None = None) -> dict:
    metadata = {"tags": tags} if tags else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}
