"""Lines of progress: replaced in a notebook, kept in a file."""

from slidesieve.cohort.progress import line_end


def test_a_line_is_replaced_in_a_notebook_and_kept_in_a_file(monkeypatch):
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert line_end(last=False) == line_end(last=True) == "\n"
    monkeypatch.setenv("JPY_PARENT_PID", "7")
    assert (line_end(last=False), line_end(last=True)) == ("\r", "\n")
    monkeypatch.delenv("JPY_PARENT_PID")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert line_end(last=False) == "\r"
