"""Style transfer of photographs: patches and their classes, the training loop by hand, a painted picture's
figures, and the whole run."""

import sys

import numpy as np
import pytest
from by_hand import Loop, Training, exact, flags, same
from example_runs import EXAMPLES, module, outcome, run

sys.path.insert(0, str(EXAMPLES))
from shared import photographs

sys.path.remove(str(EXAMPLES))

from tinygen import nn
from tinygen.models.pictures.style import StyleTransfer
from tinygen.models.pictures.vgg import VGG

for package in ("matplotlib", "tqdm", "PIL", "sklearn", "scipy"):
    pytest.importorskip(package)

EXAMPLE = "style_transfer.py"
TINY = ["--steps", "2", "--batch", "2", "--side", "16", "--evaluations", "2"]


@pytest.fixture(scope="module")
def example():
    return module(EXAMPLE)


def test_squares_from_the_middle():
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 255
    np.testing.assert_array_equal(photographs.as_square(pixels, 4), np.ones((1, 3, 4, 4), np.float32))


def test_patches_are_parts_of_their_class():
    """Without tint, contrast and noise a patch is found again in its source, perhaps mirrored."""
    patches = photographs.Patches(np.random.default_rng(0))
    assert patches.classes == 2 * 3 * 4 + 5

    class Plain(np.random.Generator):
        def uniform(self, low, high, shape):
            return np.full(shape, float(high == 1.1))

        def normal(self, mean, std, shape):
            return np.zeros(shape)

    drawn, labels = patches.draw(6, Plain(np.random.PCG64(1)))
    for patch, label in zip(drawn, labels, strict=True):
        found = 0
        for source in patches.sources[label]:
            windows = np.lib.stride_tricks.sliding_window_view(source, (40, 40), (1, 2))
            for way in (patch, patch[:, :, ::-1]):
                found += (windows[:, :, :, 0, :].swapaxes(0, 1).swapaxes(1, 2) == way[:, 0]).all((2, 3)).sum()
        assert found >= 1


def test_the_loop_is_adam_on_the_cross_entropy(example, monkeypatch):
    args = flags(monkeypatch, example, steps=3, batch=4, seed=2)
    network, network_by_hand = exact(VGG(((4,), (5,)), rng=0))
    head, head_by_hand = exact(nn.Linear(5, 29, rng=0))
    patches, loop = photographs.Patches(np.random.default_rng(0)), Loop(3)
    example.train(network, head, patches, args, loop)
    rng, training = np.random.default_rng(3), Training(nn.ModuleList([network_by_hand, head_by_hand]))
    for step in range(3):
        pictures, labels = patches.draw(4, rng)
        logits = head_by_hand(network_by_hand(pictures).mean(axis=(2, 3)))
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        loss = -log_p[np.arange(4), labels].mean()
        value = training.step(loss, args.lr * (1 - step / 3))
        assert loop.column("loss")[step] == pytest.approx(value, rel=1e-9)
    same(network, network_by_hand)
    same(head, head_by_hand)


def test_figures_of_a_painting(example, monkeypatch):
    args = flags(monkeypatch, example, evaluations=5, style_layers=2, content_layer="conv2_1")
    network = VGG(((4,), (5,)), rng=0)
    content, style = np.random.default_rng(0).uniform(-1, 1, (2, 1, 3, 8, 8)).astype(np.float32)
    x, figures = example.paint(network, content, style, 0.1, args)
    goal = StyleTransfer(network, content, style, "conv2_1", ["conv1_1", "conv2_1"], 0.1)
    of_style = [goal.losses(picture)["style"].item() for picture in (content, x)]
    assert figures["factor"] == pytest.approx(of_style[0] / of_style[1])
    assert figures["factor"] > 1
    assert figures["kept"] == pytest.approx(goal.correlation(x))


def test_a_whole_run(tmp_path):
    done = run(EXAMPLE, *TINY, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    _, _, figures = outcome(tmp_path)
    assert {name: len(found) for name, found in figures["pictures"].items()} == {"trained": 6, "random": 6}
    assert all((tmp_path / f"{name}.png").is_file() for name in ("trained", "random", "sweep"))


def test_flags_that_do_not_fit(example, monkeypatch, capsys):
    for given in ({"style_layers": 5}, {"content_layer": "conv5_1"}):
        with pytest.raises(SystemExit):
            flags(monkeypatch, example, **given)
        assert "more layers need --vgg" in capsys.readouterr().err
