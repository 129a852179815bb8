"""The quick size of every example: the trivial baseline is beaten. (`.ci/run` prints its seconds.)"""

import json

import pytest
from example_runs import EXAMPLES, run

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

TRAINED = [
    path.name
    for path in sorted(EXAMPLES.rglob("*.py"))
    if path.parent.name != "shared" and "Flags(__doc__, SIZES)" in path.read_text("utf-8")
]


@pytest.mark.slow
@pytest.mark.parametrize("example", TRAINED)
def test_the_quick_size(example, tmp_path):
    done = run(example, "--quick", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text("utf-8"))["met"]
