"""On a GPU sums are added in one order, within and no longer; on a CPU nothing is touched."""

import pytest
import torch

from slidesieve.models.reproducible import CUBLAS, reproducible

NONE = "index_fill does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms'"


def mode():
    return torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize(("gradients", "asked"), [(True, 2), (False, 1)])
def test_within_and_no_longer(monkeypatch, gradients, asked):
    monkeypatch.delenv(CUBLAS, raising=False)
    before = mode()
    with reproducible("cuda:1", gradients=gradients):
        assert mode() == (asked, False)
    assert mode() == before == (0, True)


def test_a_validation_within_a_training_leaves_it_as_strict_as_it_was():
    with reproducible("cuda", gradients=True):
        with reproducible("cuda", gradients=False):
            assert mode() == (1, False)
        assert mode() == (2, False)
    assert mode() == (0, True)


@pytest.mark.parametrize(("device", "on"), [("cpu", True), (torch.device("cpu"), True), ("cuda", False)])
def test_elsewhere_nothing_is_touched(device, on):
    with reproducible(device, gradients=True, on=on):
        assert mode() == (0, True)


def test_an_operation_without_such_a_form_says_what_to_do():
    with (
        pytest.raises(ValueError, match=r"index_fill does not .* implementation; set deterministic to false"),
        reproducible("cuda", gradients=True),
    ):
        raise RuntimeError(NONE)
    assert mode() == (0, True)


def test_other_faults_stay_what_they_are():
    with pytest.raises(RuntimeError, match="out of memory"), reproducible("cuda", gradients=True):
        raise RuntimeError("CUDA out of memory")
    assert mode() == (0, True)
