"""Receipts decide what is done: what enters a recipe, what does not, and how a difference is put into words."""

import json
import os
import signal

import pytest
from tiny_notebooks import write_notebook

from slidesieve.provenance import receipts
from slidesieve.provenance.files import hash_file, verified, write_json
from slidesieve.provenance.folders import figures_in
from slidesieve.provenance.parameters import parse_value, read_parameters
from slidesieve.provenance.recipes import recipe_of

PARAMETERS = """k: int = 8  # tokens kept
rate: float = 1e-3  # of learning
names: list[str] = ["a", "b"]  # a list
features: str = ""  # in: folder of features
answers: list[str] = []  # in: folders
manifest: str = ""  # in+slides: the manifest
lm: str = ""  # in: path or id
workers: int = 1  # run: processes
device: str = "cpu"  # run: where
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    path = write_notebook(tmp_path / "50_tiny.ipynb", parameters=PARAMETERS, body="value = k * 2")
    monkeypatch.setenv(receipts.NOTEBOOK_VARIABLE, str(path))
    return path


def defaults(notebook, out_dir):
    return {n: p.default for n, p in read_parameters(notebook).items()} | {"out_dir": str(out_dir)}


def run(notebook, out_dir, *, text="result", **given):
    """Do in this process what the notebook's cells do."""
    stage = receipts.begin(notebook.stem, defaults(notebook, out_dir) | given)
    (stage.out_dir / "answers.csv").write_text(text)
    return stage.finish(outputs=["answers.csv"])


def reasons(notebook, out_dir, **given):
    return receipts.check(out_dir, recipe_of(notebook, given))


def test_a_finished_stage_is_up_to_date_and_a_new_one_never_ran(notebook, tmp_path):
    assert reasons(notebook, tmp_path / "out") == ["never ran"]
    receipt = run(notebook, tmp_path / "out")
    assert reasons(notebook, tmp_path / "out") == []
    assert receipt["outputs"]["answers.csv"]["sha256"] == hash_file(tmp_path / "out" / "answers.csv")
    assert receipt["peak_memory_mib"] > 10 and receipt["seconds"] >= 0


def test_each_changed_parameter_is_a_reason_and_run_parameters_are_not(notebook, tmp_path):
    run(notebook, tmp_path / "out")
    assert reasons(notebook, tmp_path / "out", k=4) == ["k 8 -> 4"]
    assert reasons(notebook, tmp_path / "out", k=4, rate=1) == ["k 8 -> 4", "rate 0.001 -> 1.0"]
    assert reasons(notebook, tmp_path / "out", names=["a"]) == ["names ['a', 'b'] -> ['a']"]
    assert reasons(notebook, tmp_path / "out", workers=7, device="cuda") == []


def test_code_counts_and_prose_does_not(notebook, tmp_path):
    run(notebook, tmp_path / "out")
    write_notebook(notebook, parameters=PARAMETERS, body="# a comment\nvalue = k*2")
    assert reasons(notebook, tmp_path / "out") == []
    write_notebook(notebook, parameters=PARAMETERS + "new: int = 1  # more\n", body="value = k * 3")
    assert reasons(notebook, tmp_path / "out") == ["code of the notebook changed", "parameter new is new"]


def redrawn(notebook, out_dir):
    return receipts.redrawn_since(out_dir, recipe_of(notebook, {}))


def test_the_sentences_beside_a_notebook_are_told_anew_and_make_nothing_due(notebook, tmp_path):
    run(notebook, tmp_path / "out")
    template = notebook.with_suffix(".md.j2")
    for words in ("one", "two"):
        template.write_text(f"{{% macro a() %}}{words}{{% endmacro %}}")
        assert reasons(notebook, tmp_path / "out") == []
    assert redrawn(notebook, tmp_path / "out") == ["now uses 50_tiny.sentences"]


def test_cells_that_show_are_drawn_anew_and_make_nothing_due(notebook, tmp_path):
    run(notebook, tmp_path / "out")
    made = json.loads(notebook.read_text())
    shows = {"cell_type": "code", "metadata": {"tags": ["figures"]}, "source": "print(value)", "outputs": [], "id": "f"}
    made["cells"].insert(4, shows)
    notebook.write_text(json.dumps(made))
    assert reasons(notebook, tmp_path / "out") == []
    assert redrawn(notebook, tmp_path / "out") == ["now uses 50_tiny.figures"]
    run(notebook, tmp_path / "out")
    assert redrawn(notebook, tmp_path / "out") == []
    made["cells"][4]["source"] = "print(value + 1)"
    notebook.write_text(json.dumps(made))
    assert redrawn(notebook, tmp_path / "out") == ["code of 50_tiny.figures changed"]
    made["cells"][4]["metadata"] = {}
    notebook.write_text(json.dumps(made))
    assert reasons(notebook, tmp_path / "out") == ["code of the notebook changed"]


def test_lost_and_altered_outputs_are_noticed(notebook, tmp_path):
    run(notebook, tmp_path / "out")
    (tmp_path / "out" / "answers.csv").write_text("tamper")
    assert reasons(notebook, tmp_path / "out") == ["answers.csv changed since it was written"]
    (tmp_path / "out" / "answers.csv").unlink()
    assert reasons(notebook, tmp_path / "out") == ["answers.csv missing"]


def test_a_touched_output_with_the_same_bytes_is_fine(notebook, tmp_path):
    run(notebook, tmp_path / "out")
    os.utime(tmp_path / "out" / "answers.csv", (1, 1))
    assert reasons(notebook, tmp_path / "out") == []


def test_an_input_folder_is_its_receipts_outputs_wherever_it_lies(notebook, tmp_path):
    for place in ("a", "b"):
        run(notebook, tmp_path / place)
        (tmp_path / place / "log.txt").write_text(place)
    run(notebook, tmp_path / "out", features=str(tmp_path / "a"))
    assert reasons(notebook, tmp_path / "out", features=str(tmp_path / "b")) == []
    run(notebook, tmp_path / "b", text="other")
    assert reasons(notebook, tmp_path / "out", features=str(tmp_path / "b")) == ["input features changed: 1 file"]


def test_figures_and_ledgers_of_an_input_folder_do_not_count(notebook, tmp_path):
    def make(seconds):
        stage = receipts.begin(notebook.stem, defaults(notebook, tmp_path / "a"))
        (figures_in(stage.out_dir) / "drawn.csv").write_text(seconds)
        for name in ("a.h5", "ledger.csv", "figure.png"):
            (stage.out_dir / name).write_text("same" if name == "a.h5" else seconds)
        stage.finish(outputs=["a.h5", "ledger.csv", "figure.png", "figures"])

    make("1.5")
    run(notebook, tmp_path / "out", features=str(tmp_path / "a"))
    make("1.7")
    assert reasons(notebook, tmp_path / "out", features=str(tmp_path / "a")) == []


def test_an_input_folder_without_receipt_is_all_its_files(notebook, tmp_path):
    folder = tmp_path / "plain" / "deep"
    folder.mkdir(parents=True)
    for i in range(3):
        (folder / f"{i}.h5").write_text(str(i))
    given = {"features": str(tmp_path / "plain")}
    run(notebook, tmp_path / "out", **given)
    for i in range(3):
        (folder / f"{i}.h5").write_text(f"new {i}")
    assert reasons(notebook, tmp_path / "out", **given) == ["input features changed: 3 files"]


def test_a_list_of_inputs_is_compared_folder_by_folder(notebook, tmp_path):
    folders = [str(tmp_path / name) for name in ("a_k8", "b_k8", "c_k8")]
    for folder in folders:
        run(notebook, folder)
    run(notebook, tmp_path / "out", answers=folders[:2])
    assert reasons(notebook, tmp_path / "out", answers=folders[1::-1]) == []
    assert reasons(notebook, tmp_path / "out", answers=folders) == ["input answers changed: 1 file"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_manifest_out_of_excel_covers_its_files_too(notebook, tmp_path, encoding):
    """Whatever reads a manifest must see its files in the recipe, however it is encoded."""
    (tmp_path / "f").mkdir()
    (tmp_path / "f/c.h5").write_text("x")
    (tmp_path / "a.tif").write_text("x")
    rows = [" slide_id ;feature_path;slide_path;site;;", "c;f\\c.h5#uni;;Z\u00fcrich;;", "a;;a.tif;;;", ";;;;;"]
    (tmp_path / "m.csv").write_bytes("\n".join(rows).encode(encoding))
    given = {"manifest": str(tmp_path / "m.csv")}
    assert recipe_of(notebook, given).inputs["manifest"].keys() == {"", "f/c.h5", "a.tif"}


def test_a_manifest_covers_its_features_by_content_and_its_slides_by_sha_or_stamp(notebook, tmp_path):
    for name in ("a.tif", "b.tif", "c.h5"):
        (tmp_path / name).write_text(name)
    rows = ["slide_id,slide_path,feature_path,sha256", "a,a.tif,,", "b,b.tif,,feedbeef", "c,,c.h5,"]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    given = {"manifest": str(tmp_path / "m.csv")}
    run(notebook, tmp_path / "out", **given)
    for name in ("b.tif", "c.h5"):
        os.utime(tmp_path / name, (5, 5))
    assert reasons(notebook, tmp_path / "out", **given) == []
    os.utime(tmp_path / "a.tif", (5, 5))
    (tmp_path / "c.h5").write_text("other")
    assert reasons(notebook, tmp_path / "out", **given) == ["input manifest changed: 2 files"]


def test_an_absent_input_is_an_error_unless_it_may_be_an_id(notebook):
    with pytest.raises(FileNotFoundError, match="input features: nowhere/x not found"):
        recipe_of(notebook, {"features": "nowhere/x"})
    assert recipe_of(notebook, {"lm": "someone/model"}).inputs["lm"] == {"someone/model": "id"}
    for path in ("store/llm/toyy", "../models/qwen", "/models/qwen", "./qwen"):  # a path, and a mistyped one
        with pytest.raises(FileNotFoundError, match=r"input lm: .* not found"):
            recipe_of(notebook, {"lm": path})


def test_begin_voids_the_old_receipt_and_a_death_leaves_none(notebook, tmp_path):
    run(notebook, tmp_path / "out")
    receipts.begin("50_tiny", defaults(notebook, tmp_path / "out"))
    assert reasons(notebook, tmp_path / "out") == ["did not finish last time"]


def test_resume_state_survives_only_for_the_same_recipe(notebook, tmp_path):
    given = defaults(notebook, tmp_path / "out")
    (receipts.begin("50_tiny", given).work / "step_70.pt").write_text("state")
    assert (receipts.begin("50_tiny", given | {"workers": 3}).work / "step_70.pt").exists()
    assert not (receipts.begin("50_tiny", given | {"k": 4}).work / "step_70.pt").exists()


def killed_in(work, monkeypatch, name, *, before: bool) -> None:
    """Do `work` in a child that SIGKILLs itself before or after its first call of `receipts.<name>`."""
    real = getattr(receipts, name)

    def deadly(*given, **named):
        if not before:
            real(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(receipts, name, deadly)
        pid = os.fork()
        if not pid:
            work()
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


@pytest.mark.parametrize("before", [True, False])
def test_resume_state_outlives_a_kill_until_the_receipt_is_written(notebook, tmp_path, monkeypatch, before):
    out = tmp_path / "out"

    def work():
        stage = receipts.begin("50_tiny", defaults(notebook, out))
        (stage.work / "checkpoint.pt").write_text("state")
        (out / "answers.csv").write_text("result")
        stage.finish(outputs=["answers.csv"])

    killed_in(work, monkeypatch, "write_json", before=before)
    assert (out / "work" / "checkpoint.pt").read_text() == "state"
    assert reasons(notebook, out) == (["did not finish last time"] if before else [])
    again = receipts.begin("50_tiny", defaults(notebook, out))
    assert (again.work / "checkpoint.pt").exists() == before  # of a run that has finished, nothing is gone on from
    again.finish(outputs=["answers.csv"])
    assert not (out / "work").exists() and reasons(notebook, out) == []


def test_a_kill_while_another_recipe_s_work_is_cleared_leaves_none_of_it(notebook, tmp_path, monkeypatch):
    given = defaults(notebook, tmp_path / "out")
    stage = receipts.begin("50_tiny", given)
    for i in range(3):
        (stage.work / f"step_{i}.pt").write_text("state")
    receipts.let_go()
    rmtree, calls = receipts.shutil.rmtree, []

    def deadly(path, **named):
        calls.append(path)
        if len(calls) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        rmtree(path, **named)

    monkeypatch.setattr(receipts.shutil, "rmtree", deadly)
    pid = os.fork()
    if not pid:
        receipts.begin("50_tiny", given | {"k": 4})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    monkeypatch.setattr(receipts.shutil, "rmtree", rmtree)
    for k in (8, 4):
        work = receipts.begin("50_tiny", given | {"k": k}).work
        assert [p.name for p in work.iterdir()] == ["recipe.txt"]
    assert not (tmp_path / "out" / receipts.CLEARED).exists()


FOREIGN = ["", "{", "null", "[]", "{}", "\xff", pytest.param("[" * 20_000, id="brackets")]
FOREIGN += ['{"recipe": {}, "outputs": []}', '{"recipe": {"code": {}}, "outputs": {}}']


@pytest.mark.parametrize(
    "name", ["../a.txt", "/etc/passwd", "b//a.txt", "", "a\0b", "9" * 300, "b/" * 600 + "a", "\ud800"]
)
def test_a_receipt_that_names_what_cannot_be_its_output_is_none_of_ours(notebook, tmp_path, name):
    run(notebook, tmp_path / "out")
    path = tmp_path / "out" / "receipt.json"
    receipt = json.loads(path.read_text())
    receipt["outputs"][name] = next(iter(receipt["outputs"].values()))
    path.write_text(json.dumps(receipt))
    assert reasons(notebook, tmp_path / "out") == ["its receipt is damaged"]


@pytest.mark.parametrize("text", FOREIGN)
def test_a_damaged_receipt_is_a_reason_to_run(notebook, tmp_path, text):
    run(notebook, tmp_path / "out")
    (tmp_path / "out" / "receipt.json").write_text(text, encoding="latin-1")
    assert reasons(notebook, tmp_path / "out") == ["its receipt is damaged"]
    run(notebook, tmp_path / "out")
    assert reasons(notebook, tmp_path / "out") == []


@pytest.mark.parametrize("part", ["notebook", "code", "figures", "parameters", "inputs"])
def test_a_receipt_without_a_part_of_its_recipe_is_damaged(notebook, tmp_path, part):
    receipt = run(notebook, tmp_path / "out")
    receipt["recipe"][part] = None
    write_json(tmp_path / "out" / "receipt.json", receipt)
    assert reasons(notebook, tmp_path / "out") == ["its receipt is damaged"]


def test_damaged_files_of_an_input_are_named(notebook, tmp_path):
    run(notebook, tmp_path / "a")
    (tmp_path / "a" / "receipt.json").write_text('{"stage": ')
    with pytest.raises(ValueError, match=r"a/receipt\.json: damaged, no JSON"):
        recipe_of(notebook, {"features": str(tmp_path / "a")})
    (tmp_path / "b" / "model").mkdir(parents=True)
    (tmp_path / "b" / "model" / "model.json").write_text("")
    with pytest.raises(ValueError, match=r"b/model/model\.json: damaged, no JSON"):
        recipe_of(notebook, {"features": str(tmp_path / "b")})
    (tmp_path / "b" / "model" / "model.json").write_text("[3]")
    with pytest.raises(ValueError, match=r"b/model/model\.json: got list; expected what a model was built with"):
        recipe_of(notebook, {"features": str(tmp_path / "b")})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "receipt.json").write_text('{"total": 12.5}')  # somebody's own: a file as any other
    assert list(recipe_of(notebook, {"features": str(tmp_path / "c")}).inputs["features"]) == ["receipt.json"]


def test_a_run_that_verifies_reads_what_has_the_same_size_and_mtime(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr("slidesieve.provenance.files.ROOT", tmp_path)
    plain, made = tmp_path / "plain" / "x.bin", tmp_path / "made"
    plain.parent.mkdir()
    given = {"features": str(plain.parent)}
    for path in (plain, tmp_path / "text"):
        path.write_bytes(bytes(1 << 21))
    run(notebook, made, text="a" * (1 << 21))
    run(notebook, tmp_path / "out", **given)
    for path in (plain, made / "answers.csv"):
        stamp = path.stat()
        with path.open("rb+") as file:
            file.seek(1 << 20)
            file.write(b"b")
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert reasons(notebook, made) == [] and reasons(notebook, tmp_path / "out", **given) == []
    with verified(True):
        assert reasons(notebook, made) == ["answers.csv changed since it was written"]
        assert reasons(notebook, tmp_path / "out", **given) == ["input features changed: 1 file"]
        plain.write_bytes(bytes(1 << 21))
        assert reasons(notebook, tmp_path / "out", **given) == []  # read again within one process
    assert "SLIDESIEVE_VERIFY" not in os.environ


def test_finish_demands_its_outputs_and_clears_the_work_folder(notebook, tmp_path):
    given = defaults(notebook, tmp_path / "out")
    stage = receipts.begin("50_tiny", given)
    with pytest.raises(ValueError, match=r"50_tiny: output answers\.csv was not written"):
        stage.finish(outputs=["answers.csv"])
    folder = tmp_path / "out" / "tiles" / "deep"
    folder.mkdir(parents=True)
    (folder / "a.h5").write_text("a")
    assert list(stage.finish(outputs=["tiles"])["outputs"]) == ["tiles/deep/a.h5"]
    assert not (tmp_path / "out" / "work").exists()


def test_what_was_given_is_told_without_this_machines_folders(notebook, tmp_path):
    from slidesieve.provenance.files import ROOT

    home, others = tmp_path / "home", tmp_path / "others"
    for folder in (home, others):
        folder.mkdir()
        (folder / "m.csv").write_text("slide_id")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("DATA_ROOT", str(others))
        given = {"manifest": str(home / "m.csv"), "answers": [str(others / "m.csv")], "names": [f"{ROOT}/x", "/y/z"]}
        run(notebook, tmp_path / "out", **given)
    told = json.loads((tmp_path / "out" / "receipt.json").read_text())["given"]
    assert (told["manifest"], told["answers"], told["names"]) == ("~/m.csv", ["DATA_ROOT/m.csv"], ["x", "/y/z"])
    assert reasons(notebook, tmp_path / "out", **given) == []


def test_begin_names_a_wrong_stage_and_an_unset_parameter(notebook, tmp_path):
    with pytest.raises(ValueError, match=r"begin\('51_other'\) in 50_tiny.ipynb"):
        receipts.begin("51_other", {})
    with pytest.raises(ValueError, match="parameters answers, device, features, k, rate, workers are not defined"):
        receipts.begin("50_tiny", {"out_dir": "x", "lm": "", "manifest": "", "names": []})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kk": 3}, "50_tiny: no parameter 'kk'; did you mean 'k'?"),
        ({"k": "8"}, "k = '8' is str, expected int"),
        ({"k": True}, "k = True is bool, expected int"),
        ({"k": 8.0}, "k = 8.0 is float, expected int"),
        ({"rate": "fast"}, "rate = 'fast' is str, expected float"),
        ({"names": ["a", 3]}, r"names = \['a', 3\] is list, expected list\[str\]"),
        ({"zzz": 1, "k": None}, "no parameter 'zzz'; there are answers, .*; k = None is NoneType, expected int"),
    ],
)
def test_wrong_parameters_are_listed(notebook, given, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(notebook, given)


def test_words_become_values_of_the_declared_type(notebook):
    declared = read_parameters(notebook)
    assert parse_value(declared["k"], "7") == 7
    assert parse_value(declared["rate"], "2e-4") == 2e-4
    assert parse_value(declared["names"], "x, y") == ["x", "y"]
    assert parse_value(declared["names"], '["x,y"]') == ["x,y"]
    assert parse_value(declared["features"], "7") == "7"
    with pytest.raises(ValueError, match=r"k = '7\.5': expected int"):
        parse_value(declared["k"], "7.5")


def test_faulty_parameter_cells_are_refused_with_every_line(tmp_path):
    lines = "a = 1  # untyped\nb: int = 2\nc: Path = 3  # type\nd: int = 2 + x  # computed\ne: int = 'no'  # wrong\n"
    with pytest.raises(
        ValueError, match=r"line 2: `a = 1`.*line 3: no help.*line 4: type Path.*default of d.*e: default"
    ):
        read_parameters(write_notebook(tmp_path / "x.ipynb", parameters=lines))


def test_json_is_whole_or_absent(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_large_files_are_read_again_only_when_their_stamp_changes(tmp_path, monkeypatch):
    monkeypatch.setattr("slidesieve.provenance.files.ROOT", tmp_path)
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(1 << 21))
    digest, stamp = hash_file(big), big.stat().st_mtime_ns
    big.write_bytes(b"\1" * (1 << 21))
    os.utime(big, ns=(stamp, stamp))
    assert hash_file(big) == digest
    os.utime(big, ns=(stamp, stamp + 1))
    assert hash_file(big) != digest


def test_a_parameter_that_is_not_read_is_not_in_the_recipe(tmp_path):
    lines = """method: str = "mean"  # of pooling
    start: str = ""  # in: a folder
    top: int = 2  # if method is slots and not start: slots a tile
    steps: int = 5  # if method is not all or start: steps
    """.replace("    ", "")
    notebook = write_notebook(tmp_path / "50_tiny.ipynb", parameters=lines)
    (tmp_path / "made").mkdir()
    given = [{}, {"method": "slots"}, {"method": "slots", "start": str(tmp_path / "made")}, {"method": "all"}]
    read = [{"steps"}, {"top", "steps"}, {"steps"}, set()]
    for values, names in zip(given, read, strict=True):
        assert recipe_of(notebook, values).parameters.keys() - {"method"} == names
    assert recipe_of(notebook, {"top": 3}).digest == recipe_of(notebook, {}).digest
    with pytest.raises(ValueError, match="top: read if metod, which is no parameter"):
        read_parameters(write_notebook(tmp_path / "x.ipynb", parameters="top: int = 2  # if metod is slots: slots\n"))
