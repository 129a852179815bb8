"""VGG: its layers, its scales, and torchvision's weights, which give the features of VGG-19 in PyTorch."""

import re

import numpy as np
import pytest

from tinygen.models.pictures.vgg import MEAN, STD, VGG, VGG19, load_torchvision, torchvision_names
from tinygen.storage.files import CheckpointError

SMALL = ((4, 5), (6,), (7, 8))


def pictures(n=2, side=13):
    return np.random.default_rng(0).uniform(-1, 1, (n, 3, side, side)).astype(np.float32)


def test_layers_and_their_shapes():
    model = VGG(SMALL, rng=0)
    found = model.features(pictures(), model.names)
    shapes = {"conv1_1": (4, 13), "conv1_2": (5, 13), "conv2_1": (6, 6), "conv3_1": (7, 3), "conv3_2": (8, 3)}
    assert {name: x.shape for name, x in found.items()} == {
        name: (2, channels, side, side) for name, (channels, side) in shapes.items()
    }
    assert all(x.data.min() == 0 for x in found.values())
    np.testing.assert_array_equal(model(pictures()).data, found["conv3_2"].data)


def test_later_layers_are_not_computed():
    model = VGG(SMALL, rng=0)
    model.convs[1] = None
    assert list(model.features(pictures(), ["conv1_1"])) == ["conv1_1"]


def test_a_picture_of_the_mean_is_zero():
    """ImageNet's mean color, standardized, is 0, and so are the features without biases."""
    mean = np.broadcast_to((2 * np.array(MEAN) - 1)[:, None, None], (1, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(VGG(SMALL, rng=0)(mean).data, 0, atol=1e-6)


def test_vgg19():
    """Table 1, column E: 16 convolutions, 20,024,384 parameters in them."""
    sizes = [9 * a * b + b for a, b in zip([3, *sum(VGG19, ())], sum(VGG19, ()), strict=False)]
    assert len(sizes) == 16
    assert sum(sizes) == 20_024_384
    names = list(torchvision_names())
    assert names[:6:2] == ["features.0.weight", "features.2.weight", "features.5.weight"]
    assert names[-1] == "features.34.bias"


def test_initialize_gives_every_filter_mean_0_and_variance_1():
    model = VGG(SMALL, rng=0)
    model.convs[1].bias.data[...] = 3
    model.initialize(pictures(8))
    before = model.features(pictures(8), ["conv1_1"])["conv1_1"].data
    z = model.convs[1](before).data
    np.testing.assert_allclose(z.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(z.std(axis=(0, 2, 3)), 1, rtol=1e-4)


def test_equalize_gives_every_filter_mean_1():
    model = VGG(SMALL, rng=0)
    model.initialize(pictures(8))
    before = model.features(pictures(8), model.names)
    model.equalize(pictures(8))
    for name, after in model.features(pictures(8), model.names).items():
        x, mean = before[name].data, before[name].data.mean(axis=(0, 2, 3))
        np.testing.assert_allclose(after.data.mean(axis=(0, 2, 3)), 1, rtol=1e-4)
        np.testing.assert_allclose(after.data, x / mean[:, None, None], rtol=1e-3, atol=1e-4)


def test_equalize_leaves_filters_that_are_never_on():
    model = VGG(SMALL, rng=0)
    model.convs[0].weight.data[1] = 0
    model.equalize(pictures())
    assert all(np.isfinite(x.data).all() for x in model.parameters())
    assert not model.convs[0].weight.data[1].any()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="pooling must be one of average, max, got 'mean'"):
        VGG(SMALL, "mean", rng=0)
    for widths in ((), ((4,), ())):
        with pytest.raises(ValueError, match="each stage needs the width"):
            VGG(widths, rng=0)
    with pytest.raises(ValueError, match=r"no layer is called conv9_9; there are conv1_1, "):
        VGG(SMALL, rng=0).features(pictures(), ["conv9_9"])
    with pytest.raises(ValueError, match="avg_pool2d"):
        VGG(SMALL, rng=0)(pictures(side=2))


# -- parity --------------------------------------------------------------------------------------------


def in_torch(torch, widths, pooling):
    """VGG's `features` as torchvision has them: a Sequential, with the ReLUs and the pooling layers in it."""
    layers, before = [], 3
    kind = {"max": torch.nn.MaxPool2d, "average": torch.nn.AvgPool2d}[pooling]
    for row in widths:
        for width in row:
            layers += [torch.nn.Conv2d(before, width, 3, padding=1), torch.nn.ReLU()]
            before = width
        layers.append(kind(2))
    return torch.nn.Sequential(*layers)


def theirs(torch, model, x):
    """The features after every ReLU."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    h, found = ((torch.tensor(x) + 1) / 2 - mean) / std, []
    for layer in model:
        h = layer(h)
        if isinstance(layer, torch.nn.ReLU):
            found.append(h.detach().numpy())
    return found


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_features_equal_those_in_pytorch(pooling):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model, reference = VGG(SMALL, pooling, rng=0), in_torch(torch, SMALL, pooling)
    for (_, ours), (_, other) in zip(model.named_parameters(), reference.named_parameters(), strict=True):
        ours.data[...] = other.detach().numpy()
    found = model.features(pictures(), model.names)
    for name, expected in zip(model.names, theirs(torch, reference, pictures()), strict=True):
        np.testing.assert_allclose(found[name].data, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("is_zip", [True, False])
def test_vgg19_from_torchvisions_file(is_zip, tmp_path):
    """A file as torchvision's, with random weights: the features of all 16 layers. The classifier, which is
    six times as large, is there with one row."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    reference = torch.nn.Module()
    reference.features = in_torch(torch, VGG19, "max")
    reference.classifier = torch.nn.Linear(4, 1)
    torch.save(reference.state_dict(), tmp_path / "vgg.pth", _use_new_zipfile_serialization=is_zip)
    model, x = load_torchvision(tmp_path / "vgg.pth", "max"), pictures(1, 48)
    found = model.features(x, model.names)
    for name, expected in zip(model.names, theirs(torch, reference.features, x), strict=True):
        np.testing.assert_allclose(found[name].data, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_files_of_other_networks(tmp_path):
    torch = pytest.importorskip("torch")
    network = torch.nn.Module()
    network.features = in_torch(torch, SMALL, "max")
    torch.save(network.state_dict(), tmp_path / "x")
    why = re.escape("not VGG-19 of torchvision: expected 32 arrays")
    with pytest.raises(CheckpointError, match=why):
        load_torchvision(tmp_path / "x", "max")
