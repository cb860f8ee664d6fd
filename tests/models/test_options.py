"""A compressor's options have names of their own: a stage's parameter of the same name would be taken for one."""

import pytest

from flows.plan.notebooks import notebook_named
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.models.options import all_options_of
from slidesieve.provenance.parameters import read_parameters

STAGES = ("30", "40", "50", "60", "65")


@pytest.mark.parametrize("compressor", sorted(COMPRESSORS))
def test_no_option_has_the_name_of_a_stage_s_parameter(compressor):
    taken = {name for stage in STAGES for name in read_parameters(notebook_named(stage))}
    assert set(all_options_of(compressor)) & taken == set()
