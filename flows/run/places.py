"""This machine's folders, taken out of what others get to read: executed notebooks, pages, the report."""

import os
import re
import sys
import tempfile
from pathlib import Path

from slidesieve.provenance.files import ROOT


def without_places(text: str) -> str:
    """Take this machine's folders out of what is shared: the checkout's, DATA_ROOT's, Python's, the user's own."""
    named = {f"{ROOT}/": "", f"{sys.prefix}/": "", f"{sys.base_prefix}/": "", f"{Path.home()}/": "~/"}
    if data_root := os.environ.get("DATA_ROOT"):
        named[f"{Path(data_root).absolute()}/"] = "DATA_ROOT/"
    for folder in sorted(named, key=len, reverse=True):
        if folder != "//":
            text = text.replace(folder, named[folder])
    return re.sub(rf"{re.escape(tempfile.gettempdir())}/ipykernel_\d+/", "", text)
