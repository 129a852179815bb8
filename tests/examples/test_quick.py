"""The quick size of every example: at most ten seconds of one core, and the trivial baseline is beaten."""

import json

import pytest
from example_runs import EXAMPLES, run

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")
resource = pytest.importorskip("resource")  # not on Windows

LONGEST = 10.0  # seconds of a processor, after the kernels are compiled
TRAINED = [
    path.name
    for path in sorted(EXAMPLES.rglob("*.py"))
    if path.parent.name != "shared" and "Flags(__doc__, SIZES)" in path.read_text("utf-8")
]


def seconds_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@pytest.mark.parametrize("example", TRAINED)
def test_the_quick_size(example, tmp_path):
    for _ in range(2):
        before = seconds_of_children()
        done = run(example, "--quick", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
        seconds = seconds_of_children() - before
        if "compiling kernels" not in done.stderr:
            break
    (result,) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text("utf-8"))["met"]
    assert seconds <= LONGEST, f"{example} --quick took {seconds:.1f} s of a processor"
