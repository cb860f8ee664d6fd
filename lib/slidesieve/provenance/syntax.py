"""Python source -> syntax tree, one thread at a time.

CPython 3.11 counts the depth of all threads' trees together: two made at once end in a SystemError if garbage is
collected by Python code in between. A flow hashes the code of several notebooks side by side.
"""

import ast
import threading

_ONE_AT_A_TIME = threading.Lock()


def parse(source: str) -> ast.Module:
    with _ONE_AT_A_TIME:
        return ast.parse(source)
