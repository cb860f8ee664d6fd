"""Runs and published folders, each made once for all tests of the room."""

import sys
from pathlib import Path

import pytest
from tiny_run import COMMAND, write_run
from transformers import dynamic_module_utils

from slidesieve.exports.huggingface import publish
from slidesieve.exports.runs import find_run


@pytest.fixture(scope="session")
def run_of(tmp_path_factory, lm_folder):
    """Give the experiment's folder with one run of a method, trained as said; do not leave changes in it."""
    made = {}

    def run_of(method: str, **how) -> Path:
        key = (method, *sorted(how.items()))
        if key not in made:
            made[key] = write_run(tmp_path_factory.mktemp(method) / "run", lm_folder, method, **how)
        return made[key]

    return run_of


@pytest.fixture(scope="session")
def published(run_of):
    """Give the folder that a run was exported to: `model`, beside the run's."""

    def published(method: str, **how) -> Path:
        folder = run_of(method, **how).with_name("model")
        if not folder.exists():
            publish(find_run(run_of(method, **how)), folder, command=COMMAND)
        return folder

    return published


@pytest.fixture(scope="session", autouse=True)
def modules(tmp_path_factory):
    """Code of published folders is copied here instead of into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        patch.setattr(sys, "path", list(sys.path))
        yield
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        del sys.modules[name]
