"""Code of several notebooks is parsed at the same time."""

import ast
import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from slidesieve.provenance.parameters import parse


@pytest.fixture
def restless():
    """Collect garbage often, in Python code that lets another thread in: what makes a bare ast.parse fail."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    callback = lambda phase, info: sum(range(50))  # noqa: E731
    sys.setswitchinterval(1e-5)
    gc.set_threshold(20, 1, 1)
    gc.callbacks.append(callback)
    yield
    gc.callbacks.remove(callback)
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


def test_many_threads_parse_at_once(restless):
    source = "x = " + "(" * 40 + "1" + ")" * 40 + "\n" + "def f(a):\n    return [a + i for i in range(3)]\n" * 60
    expected = ast.dump(ast.parse(source))
    with ThreadPoolExecutor(8) as pool:
        trees = list(pool.map(parse, [source] * 100))
    assert {ast.dump(tree) for tree in trees} == {expected}
