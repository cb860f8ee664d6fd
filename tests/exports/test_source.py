"""What is cut out of the package: whole definitions, word for word, and what stands in for what is not there."""

import importlib
import re

import einops
import pytest
import torch

from slidesieve.exports import portable
from slidesieve.exports.source import Cut
from slidesieve.provenance.code_reach import LIBRARY

FILES = {
    "a/__init__.py": '"""A room."""',
    "__init__.py": "",
    "a/table.py": '''"""Rows."""

from importlib import import_module

# kept beside it
METHODS = dict(
    {
        "one": "slidesieve.a.one.One",
        "two": "slidesieve.a.two.Two",
    }
)


def named(name):
    module, _, made = METHODS[name].rpartition(".")
    return getattr(import_module(module), made)


def unused():
    return 1
''',
    "a/one.py": '''"""One."""

import os
import math as m

from jaxtyping import Float

from slidesieve.a.two import helper as h


class One:
    width = 3

    def use(self, x: Float[float, "n"]) -> float:
        return h(x) + m.pi

    # with a word of its own
    @staticmethod
    def train(x):
        return os.name
''',
    "a/two.py": """def helper(x):
    return "µ" and x


class Two:
    pass
""",
    "a/face.py": """from slidesieve.a.table import named


class Face:
    def ask(self, name, x):
        return named(name)().use(x)
""",
}


@pytest.fixture
def root(tmp_path):
    for name, text in FILES.items():
        (tmp_path / "slidesieve" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "slidesieve" / name).write_text(text, encoding="utf-8")
    package = tmp_path / "slidesieve/exports"
    package.mkdir()
    (package / "portable.py").write_text((LIBRARY / "slidesieve/exports/portable.py").read_text())
    return tmp_path


def cut(root, **picks):
    words = {"method": frozenset(picks["method"])}
    return Cut({"slidesieve.a.face.Face": "face"}, words, version="x", root=root).files()


def test_only_what_is_reached_is_cut_out_word_for_word(root):
    files = cut(root, method={"one"})
    assert set(files) == {"face.py", "a_table.py", "a_one.py", "a_two.py", "exports_portable.py"}
    assert "# kept beside it\nMETHODS" in files["a_table.py"] and "unused" not in files["a_table.py"]
    assert '"one": f"{__package__}.a_one.One"' in files["a_table.py"] and "Two" not in files["a_table.py"]
    assert '    def use(self, x: Float[float, "n"]) -> float:\n        return h(x) + m.pi' in files["a_one.py"]
    assert not re.search("train|import os|a word of its own", files["a_one.py"])
    assert "from .a_two import helper as h" in files["a_one.py"] and "import math as m" in files["a_one.py"]
    assert "from .exports_portable import Shaped as Float" in files["a_one.py"]
    assert 'return "µ" and x' in files["a_two.py"] and "class Two" not in files["a_two.py"]
    assert "from .a_one import One" in files["face.py"]  # looked up by name: it must come along
    assert "class Two" in cut(root, method={"two"})["a_two.py"]


def test_the_cut_package_works_where_there_is_none_of_ours(root, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/__init__.py").touch()
    for name, text in cut(root, method={"one"}).items():
        (tmp_path / "elsewhere" / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    face = importlib.import_module("elsewhere.face")
    assert face.Face().ask("one", 1.0) == pytest.approx(4.141592653589793)


def test_what_cannot_be_cut_is_refused(root):
    (root / "slidesieve/a/two.py").write_text("def helper(x):\n    import os\n    return os\n")
    with pytest.raises(ValueError, match=r"a\.two\.helper: imports inside a function"):
        cut(root, method={"one"})
    (root / "slidesieve/a/two.py").write_text("from slidesieve.a import one\n\n\ndef helper(x):\n    return one\n")
    with pytest.raises(ValueError, match=r"slidesieve\.a\.one: a module as a value"):
        cut(root, method={"one"})


def test_rearrange_is_einops_on_every_pattern_in_use():
    text = "".join(
        file.read_text() for room in ("models", "compressors") for file in (LIBRARY / "slidesieve" / room).rglob("*.py")
    )
    patterns = set(re.findall(r'rearrange\(.*?"([^"]+ -> [^"]+)"', text, flags=re.S))
    assert len(patterns) > 8
    for pattern in patterns:
        left, sizes = pattern.split("->")[0], {"h": 2, "three": 3, "a": 2, "t": 5, "r": 4}
        words = re.findall(r"\([^)]*\)|\w+", left)
        shape = [torch.tensor([sizes.get(w, 7) for w in re.findall(r"\w+", word)]).prod().item() for word in words]
        given = {w: sizes[w] for word in words if "(" in word for w in re.findall(r"\w+", word) if w in sizes}
        x = torch.arange(torch.tensor(shape).prod().item()).reshape(shape)
        assert torch.equal(portable.rearrange(x, pattern, **given), einops.rearrange(x, pattern, **given)), pattern
