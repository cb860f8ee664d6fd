"""This machine's folders, taken out of what others get to read: executed notebooks, pages, the report."""

import os
import re
import sys
import tempfile
from pathlib import Path

from slidesieve.provenance.files import ROOT

START = r"(?:(?<![\w.~/-])|(?<=\\[nrt])|(?<=\dm))"  # of a path, in text or JSON, after a colour's code too


def without_places(text: str) -> str:
    """Take this machine's folders out of what is shared: the checkout's, DATA_ROOT's, Python's, the user's own."""
    for folder in sorted((f"{ROOT}/", f"{sys.prefix}/"), key=len, reverse=True):
        text = text.replace(folder, "")
    named = {f"{sys.base_prefix}/lib/": "lib/", f"{Path.home()}/": "~/"}
    if data_root := os.environ.get("DATA_ROOT"):
        named[f"{Path(data_root).absolute()}/"] = "DATA_ROOT/"
    for folder in sorted(named, key=len, reverse=True):
        if folder != "//":
            text = re.sub(START + re.escape(folder), lambda _, to=named[folder]: to, text)
    return re.sub(rf"{re.escape(tempfile.gettempdir())}/ipykernel_\d+/", "", text)
