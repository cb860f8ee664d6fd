"""A recipe within a plan: each input is looked at once, and what differs between stages still does."""

from tiny_notebooks import write_notebook

from slidesieve.provenance.recipes import looked_up_once, recipe_of

PARAMETERS = (
    'table: str = ""  # in: a file\nk: int = 3  # tokens kept\nwith_slides: str = ""  # in+slides: a manifest\n'
)


def test_within_a_plan_an_input_is_of_one_moment_and_after_it_of_the_next(tmp_path):
    notebook, table = write_notebook(tmp_path / "10_x.ipynb", parameters=PARAMETERS), tmp_path / "t.csv"
    table.write_text("a\n")
    before = recipe_of(notebook, {"table": str(table)})
    with looked_up_once():
        assert recipe_of(notebook, {"table": str(table)}) == before
        table.write_text("b\n")
        assert recipe_of(notebook, {"table": str(table)}) == before
        other = recipe_of(notebook, {"table": str(table), "k": 7})
        assert other.parameters == {"k": 7} and other.inputs == before.inputs and other.digest != before.digest
    after = recipe_of(notebook, {"table": str(table)})
    assert after.inputs["table"] != before.inputs["table"] and after.code == before.code


def test_a_manifest_is_read_with_its_slides_only_where_they_are_asked_for(tmp_path):
    notebook, table = write_notebook(tmp_path / "10_x.ipynb", parameters=PARAMETERS), tmp_path / "m.csv"
    (tmp_path / "s.tif").write_bytes(b"pixels")
    table.write_text("slide_id,slide_path\ns,s.tif\n")
    with looked_up_once():
        inputs = recipe_of(notebook, {"table": str(table), "with_slides": str(table)}).inputs
    assert set(inputs["table"]) == {""} and set(inputs["with_slides"]) == {"", "s.tif"}
