"""What a stage's code reaches: on a small package statement by statement, and on ours edit by edit."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_notebooks import write_notebook

from slidesieve.provenance.code_reach import by_meaning, reach
from slidesieve.provenance.files import ROOT

SMALL = {
    "slidesieve/__init__.py": '"""words"""\n',
    "slidesieve/below.py": """
        import math
        from math import sqrt as root
        from typing import NamedTuple
        from slidesieve.training import tracking
        LIMIT = 3
        ADVICE = "try again"
        A, B = 1, 2
        class Size(NamedTuple):
            wide: int = LIMIT
        def f(x: Size, *, deep: int = 2) -> Size:
            'Say.'
            if x is None:
                raise ValueError(f"none given; {ADVICE}")
            print(f"{x} is given")
            return Size(int(root(deep)) + A)
        def unused():
            return f(None)
        """,
    "slidesieve/training/tracking.py": "def log(x): return x\n",
    "slidesieve/parts/__init__.py": "from .one import g\n",
    "slidesieve/parts/one.py": """
        from .. import below
        from slidesieve.figures import score
        def g(x):
            score.bar(x)
            return below.f(x).wide
        def by_value():
            return getattr(below, "f")
        """,
    "slidesieve/figures/score.py": """
        from slidesieve.figures.colours import GREY
        from slidesieve.below import LIMIT, Size
        def bar(x): return GREY, LIMIT, Size
        """,
    "slidesieve/figures/colours.py": "GREY = 1\n",
    "slidesieve/effects.py": """
        import os
        os.environ.setdefault("A", "1")
        TABLES = {"a": "slidesieve.ones.A", "b": "slidesieve.ones.B", "none": ""}
        def make(name): return TABLES[name]
        """,
    "slidesieve/ones.py": "class A:\n    x = 1\nclass B:\n    x = 2\n",
    "slidesieve/words.py": "class C:\n    kin = 'slidesieve.ones.B'\n    none = 'slidesieve.ones.D'\n",
}
REACHED = [
    "slidesieve.below.A",
    "slidesieve.below.LIMIT",
    "slidesieve.below.Size",
    "slidesieve.below.f",
    "slidesieve.parts.one.g",
]
FIGURES = ["slidesieve.figures.colours.GREY", "slidesieve.figures.score.bar"]


def unindented(text: str) -> str:
    return "\n".join(line.removeprefix(" " * 8) for line in text.splitlines()) + "\n"


@pytest.fixture
def small(tmp_path):
    for name, text in SMALL.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(unindented(text))
    return tmp_path


def edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    text = path.read_text()
    assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
    path.write_text(text.replace(old, new))


def look(root: Path, *, prelude: str = "from slidesieve.parts import g", body: str = "g(3)", picks=None):
    return reach(write_notebook(root / "50_x.ipynb", prelude=prelude, body=body), picks or {}, root)


def test_names_are_followed_through_any_number_of_steps(small):
    _, found = look(small)
    assert (list(found.code), list(found.figures)) == (REACHED, FIGURES)
    _, found = look(small, prelude="import slidesieve.parts.one as one", body="one.g(1)")
    assert (list(found.code), list(found.figures)) == (REACHED, FIGURES)
    _, found = look(small, prelude="from slidesieve import below", body="below.unused")
    assert list(found.code) == [*REACHED[:4], "slidesieve.below.unused"] and not found.figures


def test_a_module_as_a_value_or_asked_for_something_unknown_is_reached_whole(small):
    whole = {f"slidesieve.below.{name}" for name in ("A", "ADVICE", "B", "LIMIT", "Size", "f", "unused")}
    for prelude, body in (
        ("from slidesieve.parts import one", "one.by_value()"),
        ("from slidesieve import below", "below.of_later()"),
        ("from slidesieve import below", "vars(below)"),
    ):
        _, found = look(small, prelude=prelude, body=body)
        assert whole <= found.code.keys()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("slidesieve/below.py", "Say.", "Say it better."),
        ("slidesieve/below.py", "return f(None)", "return f(None)  # a comment"),
        ("slidesieve/below.py", "return f(None)", "return 4"),
        ("slidesieve/below.py", "none given", "nothing given"),
        ("slidesieve/below.py", "try again", "try once more"),
        ("slidesieve/below.py", " is given", " it is"),
        ("slidesieve/below.py", "*, deep: int = 2) -> Size", "*, deep: float = 2) -> object"),
        ("slidesieve/below.py", "import math\n", ""),
        ("slidesieve/below.py", "return Size(", "tracking.log(deep + 1)\n    return Size("),
        ("slidesieve/figures/colours.py", "1", "2"),
        ("slidesieve/figures/score.py", "return GREY", "return 3, GREY"),
    ],
)
def test_what_makes_no_result_does_not_count(small, name, old, new):
    before = look(small)
    edit(small, name, old, new)
    after = look(small)
    assert (after[0], after[1].code) == (before[0], before[1].code)
    assert (after[1].figures != before[1].figures) == ("figures" in name)


@pytest.mark.parametrize(
    ("name", "old", "new", "changed"),
    [
        ("slidesieve/below.py", "LIMIT = 3", "LIMIT = 4", ["slidesieve.below.LIMIT"]),
        ("slidesieve/below.py", "A, B = 1, 2", "A, B = 2, 2", ["slidesieve.below.A"]),
        ("slidesieve/below.py", "raise ValueError", "raise KeyError", ["slidesieve.below.f"]),
        ("slidesieve/below.py", "deep: int = 2", "deep: int = 3", ["slidesieve.below.f"]),
        (
            "slidesieve/below.py",
            "from math import sqrt as root",
            "from cmath import sqrt as root",
            ["slidesieve.below.f"],
        ),
        ("slidesieve/below.py", "wide: int = LIMIT", "wide: float = LIMIT", ["slidesieve.below.Size"]),
        ("slidesieve/below.py", "Size(int(", "Size(tracking.log(1) and int(", ["slidesieve.below.f"]),
        ("slidesieve/parts/one.py", "below.f(x).wide", "below.f(x)", ["slidesieve.parts.one.g"]),
    ],
)
def test_what_makes_a_result_counts_where_it_stands(small, name, old, new, changed):
    before = look(small)[1].code
    edit(small, name, old, new)
    after = look(small)[1].code
    assert [n for n in before if after.get(n) != before[n]] == changed


def test_what_only_a_cell_that_shows_reaches_is_reached_with_the_figures(small):
    path = write_notebook(
        small / "50_x.ipynb", prelude="from slidesieve.parts import g\nfrom slidesieve import below", body="g(3)"
    )
    before = reach(path, {}, small)
    made = json.loads(path.read_text())
    made["cells"][4] = made["cells"][3] | {"metadata": {"tags": ["figures"]}, "source": "below.unused()", "id": "shows"}
    path.write_text(json.dumps(made))
    _, found = reach(path, {}, small)
    assert found.code == before[1].code and "slidesieve.below.unused" not in found.code
    assert found.figures.keys() - before[1].figures.keys() == {"slidesieve.below.unused", "50_x.figures"}


def test_how_a_printed_line_ends_does_not_count(small):
    before = look(small)
    edit(small, "slidesieve/below.py", 'print(f"{x} is given")', 'print(f"{x} is given", end=chr(13))')
    assert look(small) == before
    edit(small, "slidesieve/below.py", "end=chr(13)", "flush=True")
    assert look(small)[1].code != before[1].code


def test_moved_code_is_the_same_code(small):
    before = look(small)
    text = (small / "slidesieve/below.py").read_text()
    (small / "slidesieve/deep").mkdir()
    (small / "slidesieve/deep/under.py").write_text(text)
    edit(small, "slidesieve/below.py", text, "from slidesieve.deep.under import f, unused\nA = LIMIT = 'other'\n")
    edit(small, "slidesieve/parts/one.py", "below.f(x).wide", "under.f(x).wide")
    edit(small, "slidesieve/parts/one.py", "from .. import below\n", "from slidesieve.deep import under\n")
    edit(small, "slidesieve/figures/score.py", "slidesieve.below", "slidesieve.deep.under")
    (small / "slidesieve/figures/colours.py").rename(small / "slidesieve/figures/tones.py")
    edit(small, "slidesieve/figures/score.py", "slidesieve.figures.colours", "slidesieve.figures.tones")
    after = look(small, prelude="import slidesieve.parts", body="slidesieve.parts.g(3)")
    assert after[0] == before[0] and list(after[1].code) != list(before[1].code)
    assert by_meaning(after[1].code) == by_meaning(before[1].code)
    assert by_meaning(after[1].figures) == by_meaning(before[1].figures)


def test_a_table_is_followed_by_what_the_stage_picks_and_imports_have_effects(small):
    def seen(picks):
        return look(small, prelude="from slidesieve.effects import make", body="make('a')", picks=picks)[1].code

    both = {
        "slidesieve.effects.TABLES",
        "slidesieve.effects.make",
        "slidesieve.effects.on import",
        "slidesieve.ones.A",
        "slidesieve.ones.B",
    }
    whole = seen({})
    assert whole.keys() == seen({"other": frozenset("a")}).keys() == both
    first = seen({"table": frozenset({"a", "none", "words of another parameter"})})
    assert first.keys() == both - {"slidesieve.ones.B"}
    edit(
        small, "slidesieve/effects.py", '"b": "slidesieve.ones.B"', '"b": "slidesieve.ones.B", "c": "slidesieve.ones.B"'
    )
    assert seen({"table": frozenset({"a", "none"})}) == first
    assert seen({}) != whole


def test_a_word_that_names_a_definition_stands_for_it(small):
    def seen():
        return look(small, prelude="from slidesieve.words import C", body="C()")[1].code

    before = seen()
    assert list(before) == ["slidesieve.ones.B", "slidesieve.words.C"]
    edit(small, "slidesieve/ones.py", "x = 2", "x = 3")
    after = seen()
    assert [name for name in after if after[name] != before[name]] == ["slidesieve.ones.B"]


def test_hashes_are_the_same_under_every_python(tmp_path):
    """Newer Pythons have fields that older ones lack (type parameters), and leave empty ones out of `ast.dump`."""
    (tmp_path / "slidesieve").mkdir()
    body = "class A:\n    def f(self, x=1, *y): return f'{x!r:>{y}}'  # none\n"
    assert reach(write_notebook(tmp_path / "n.ipynb", body=body), {}, tmp_path)[0] == "9cbf94c35fcf03f7"


NO_ENCODER = {"slide_encoder": "none"}
STAGES = {
    **{f"40 {name}": ("40_align_captions", {"compressor": name} | NO_ENCODER) for name in ("sparselearn", "tcssa")},
    "40 locpath": ("40_align_captions", {"compressor": "locpath"} | NO_ENCODER),
    "50 sparselearn": ("50_tune_answers", {"compressor": "sparselearn"} | NO_ENCODER),
    "60 sparselearn": ("60_answer_questions", {"compressor": "sparselearn"} | NO_ENCODER),
} | {
    p.stem: (p.stem, {"compressor": "locpath"} if p.stem[:2] == "30" else {})
    for p in (ROOT / "notebooks").glob("*.ipynb")
    if p.stem[:2] not in ("40", "50", "60")
}
ANY_MODEL = {"65_classify_slides", "70_map_selected_tokens", "71_length_stability", "72_soft_to_hard", "73_slot_usage"}
ANY_MODEL |= {"74_tile_redundancy", "75_compute_cost"}
EDITS = {
    "a colour": ("answers/palette.py", "DARK, GREY, MIST =", "MIST, GREY, DARK =", set()),
    "a figure": ("figures/slots.py", "def load_by_rank(", "@cache\ndef load_by_rank(", set()),
    "a word of an error": ("models/checkpoints.py", "give the one it was trained with", "name the right one", set()),
    "an unused function": ("evaluation/stats.py", "def wilson(", "def unused():\n    return 1\n\n\ndef wilson(", set()),
    "a comment": ("training/loop.py", "def fit(", "# trains\ndef fit(", set()),
    "a line of LoC-Path's resampler": (
        "compressors/locpath.py",
        "class Resampler(nn.Module):\n",
        "class Resampler(nn.Module):\n    X = 1\n",
        {"40 locpath", "30_pretrain_resampler"} | ANY_MODEL,
    ),
    "a line of what reads LoC-Path's latents": (
        "models/cross_attention.py",
        "class Importance(nn.Module):\n",
        "class Importance(nn.Module):\n    X = 1\n",
        {"40 locpath", "30_pretrain_resampler"} | ANY_MODEL,
    ),
    "a default of SparseLearn": (
        "compressors/sparselearn.py",
        'gate: Gate = "vp"',
        'gate: Gate = "scale"',
        {"40 sparselearn", "50 sparselearn", "60 sparselearn"} | ANY_MODEL,
    ),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    root = tmp_path_factory.mktemp("ours")
    shutil.copytree(ROOT / "lib" / "slidesieve", root / "slidesieve", ignore=shutil.ignore_patterns("__pycache__"))
    return root


def everything(root: Path) -> dict:
    told = {stage: dict.fromkeys(picks, frozenset(picks.values())) for stage, (_, picks) in STAGES.items()}
    return {stage: reach(ROOT / "notebooks" / f"{STAGES[stage][0]}.ipynb", told[stage], root) for stage in STAGES}


def test_an_edit_makes_those_stages_due_that_depend_on_it(ours):
    before = everything(ours)
    for what, (name, old, new, due) in EDITS.items():
        text = (ours / "slidesieve" / name).read_text()
        assert old in text, f"{what}: no {old!r} in {name}"
        (ours / "slidesieve" / name).write_text(text.replace(old, new, 1))
        after = everything(ours)
        (ours / "slidesieve" / name).write_text(text)
        assert {stage for stage in STAGES if after[stage][1].code != before[stage][1].code} == due, what
        drawn = {stage for stage in STAGES if after[stage][1].figures != before[stage][1].figures}
        assert (drawn == {"73_slot_usage"}) == (what == "a figure"), what
        assert bool(drawn) == (what in ("a colour", "a figure")), what
