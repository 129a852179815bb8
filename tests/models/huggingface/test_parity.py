"""Every family of language models, both directions: the folders of `transformers` run here as there, and what
is written of them is read there again, every bit of every tensor. The models are in tests/tools."""

import pytest
from transformers_parity import BOUND, FAMILIES, compare

CASES = [(name, i) for name, family in FAMILIES.items() for i in range(len(family.cases))]


@pytest.mark.parametrize(("name", "i"), CASES)
def test_both_directions(transformers, tmp_path, name, i):
    family = FAMILIES[name]
    case = family.cases[i]
    found = compare(family, case, tmp_path)
    assert found.difference <= BOUND
    assert found.largest > 1
    assert found.same_text in (True, None)
    assert found.files > 1 or case.shard == "1GB"
    assert found.same_size
    assert not found.lost
    renamed = "gelu_pytorch_tanh" in case.options.values()  # gelu_new, the same function, is written
    assert found.written_difference <= (1e-5 if renamed else 0)


def test_every_family_has_six_cases_and_each_kind_of_file():
    for family in FAMILIES.values():
        assert len(family.cases) >= 6
        assert {case.dtype for case in family.cases} == {"float32", "bfloat16", "float16"}
        assert any(case.shard != "1GB" for case in family.cases)
