"""What is right is never called wrong, and nothing crashes or hangs."""

import pytest
from right_ops import RIGHT

from tinygen import gradcheck


@pytest.mark.parametrize("name", RIGHT)
def test_right_ops_are_ok(name):
    f, *inputs = RIGHT[name]
    report = gradcheck(f, *inputs)
    assert report, report
    assert not report.findings
