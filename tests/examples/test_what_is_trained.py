"""The objects that the examples build from their flags before the loop: the model, the process, the data,
the average of the weights. The average must be the saved model. The loops are tested in
test_steps_of_*.py."""

import numpy as np
import pytest
from by_hand import Loop, flags
from example_runs import module

from tinygen.diffusion import cosine_schedule, linear_schedule
from tinygen.optim import EMA

for package in ("matplotlib", "tqdm", "PIL"):
    pytest.importorskip(package)


class Done(Exception):
    pass


@pytest.fixture
def learned(monkeypatch, tmp_path):
    """`learned(file, loop, **flags)` -> the example, what its loop is given, and what is saved after it. The
    loop only adds 1 to the average of the weights."""

    def learn(file, loop, **given):
        example, seen = module(file), {}
        args = flags(monkeypatch, example, out=tmp_path, **given)

        def train(*given):
            seen["given"] = given
            for ema in given:
                if isinstance(ema, EMA):
                    ema.average = {name: x + 1 for name, x in ema.average.items()}

        def save(state):
            seen["saved"] = state
            raise Done

        class Run(Loop):
            def __init__(self, *_, **__):
                super().__init__(0)
                self.rows, self.model = [{"val_loss": 0.0}], save

        monkeypatch.setattr(example, loop, train)
        monkeypatch.setattr(example, "Run", Run)
        for name, fake in (("bounds", (0, 0, 1)), ("baselines", (0, 0, 0))):
            if hasattr(example, name):
                monkeypatch.setattr(example, name, lambda *_, fake=fake, **__: fake)
        with pytest.raises(Done):
            example.main(args)
        return example, seen["given"], seen["saved"]

    return learn


def require_the_average(ema, start, saved):
    """The average began at the weights of `start`; 1 above them now, it is what is saved."""
    for name, p in start.named_parameters():
        np.testing.assert_allclose(ema.average[name], p.data + 1, rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(saved[name], ema.average[name], err_msg=name)


def test_gpt_text(learned, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 40)
    sizes = {"layers": 1, "heads": 3, "width": 6, "block": 7, "dropout": 0.25}
    _, (model, train, val, *_), _ = learned("gpt_text.py", "train_model", data=text, **sizes)
    c = model.config
    assert (c.n_layer, c.n_head, c.n_embd, c.block_size, c.dropout, c.bias) == (1, 3, 6, 7, 0.25, False)
    assert c.vocab_size == len(set(text.read_text())) == train.max() + 1
    assert (len(train), len(val)) == (864, 96)
    assert model.h[0].attn.dropout == model.h[0].dropout.p == model.drop.p == 0.25


def test_gpt_algorithms(learned):
    sizes = {"layers": 1, "heads": 3, "width": 6, "dropout": 0.25}
    _, (model, task, *_), _ = learned("gpt_algorithms.py", "train", task="addition", **sizes)
    c = model.config
    assert (c.n_layer, c.n_head, c.n_embd, c.block_size, c.dropout) == (1, 3, 6, 6, 0.25)
    assert c.vocab_size == task.vocab_size == 10


def test_diffusion_2d(learned):
    sizes = {"timesteps": 30, "ddim_steps": 5, "width": 7, "waves": 3, "ema": 0.8, "data": "moons", "seed": 4}
    example, (model, ema, data, process, *_), saved = learned("diffusion_2d.py", "train", **sizes)
    assert (process.predicts, ema.decay) == ("eps", 0.8)
    np.testing.assert_array_equal(process.schedule.beta, linear_schedule(30).beta)
    np.testing.assert_array_equal(data.means, example.moons().means)
    assert model.out.weight.shape == (2, 7)
    require_the_average(ema, example.Denoiser(2, 7, waves=3, rng=np.random.default_rng(4)), saved)


def test_flows_2d(learned):
    sizes = {"couplings": 3, "channels": 5, "slope": 2, "width": 7, "ema": 0.8, "data": "moons", "seed": 4}
    example, (models, ema, data, process, args, _), saved = learned("flows_2d.py", "train", **sizes)
    assert (process.predicts, ema.decay) == ("eps", 0.8)
    np.testing.assert_array_equal(process.schedule.beta, linear_schedule(200).beta)
    np.testing.assert_array_equal(data.means, example.moons().means)
    assert len(models["RealNVP"].couplings) == 3
    require_the_average(ema, example.nn.ModuleList(example.build(args).values()), saved)


def test_ddpm_digits(learned):
    pytest.importorskip("sklearn")
    sizes = {"timesteps": 30, "channels": 8, "ema": 0.8, "seed": 4}
    example, (model, ema, process, data, *_), saved = learned("ddpm_digits.py", "train_model", **sizes)
    assert (process.predicts, ema.decay) == ("eps", 0.8)
    np.testing.assert_array_equal(process.schedule.beta, cosine_schedule(30).beta)
    c = model.config
    assert (c.channels, c.multipliers, c.classes, c.in_channels, c.out_channels) == (8, (1, 2), 10, 1, 1)
    assert len(data.pictures) == 1297
    require_the_average(ema, example.UNet(c, rng=np.random.default_rng(4)), saved)


def test_gan_digits(learned):
    pytest.importorskip("sklearn")
    sizes = {"channels": 6, "latent": 3, "ema": 0.8, "seed": 4}
    example, (g, d, ema, data, *_), saved = learned("gan_digits.py", "train", **sizes)
    assert (g.start.weight.shape, g.out.weight.shape, len(g.hidden)) == ((6, 3), (64, 6), 2)
    assert (d.label.weight.shape, len(d.layers), ema.decay) == ((10, 6), 3, 0.8)
    assert len(data.pictures) == 1297
    rng = np.random.default_rng(4)
    require_the_average(ema, example.DenseGenerator(64, 6, 3, 3, 10, rng=rng), saved)


def test_gan_shapes(learned):
    sizes = {"channels": 4, "latent": 3, "ema": 0.8, "seed": 4}
    example, (g, d, ema, *_), saved = learned("gan_shapes.py", "train", **sizes)
    c = g.text.words.config
    assert (c.layers, c.words, c.max_words) == (0, example.WORDS, 8)
    assert (g.latent, g.pictures.out.weight.shape) == (3, (3, 4, 3, 3))
    assert [down.weight.shape[0] for down in d.pictures.downs] == [4, 8]
    text, rng = example.TextEncoderConfig(example.WORDS, 8, layers=0), np.random.default_rng(4)
    require_the_average(ema, example.TextGenerator(text, side=16, channels=4, latent=3, rng=rng), saved)


def test_inpaint_shapes(learned):
    sizes = {"timesteps": 60, "channels": 8, "ema": 0.8, "seed": 4}
    example, (model, ema, process, *_), saved = learned("inpaint_shapes.py", "train", **sizes)
    assert (process.predicts, ema.decay) == ("v", 0.8)
    np.testing.assert_array_equal(process.schedule.beta, cosine_schedule(60).beta)
    assert (model.config.channels, model.config.multipliers) == (8, (1, 2, 2))
    require_the_average(ema, example.UNet(model.config, rng=np.random.default_rng(4)), saved)


def test_palette_shapes(learned):
    sizes = {"timesteps": 60, "channels": 8, "ema": 0.8, "seed": 4}
    example, (model, ema, *_), saved = learned("palette_shapes.py", "train", **sizes)
    assert (model.process.predicts, ema.decay) == ("v", 0.8)
    np.testing.assert_array_equal(model.process.schedule.beta, cosine_schedule(60).beta)
    c = model.unet.config
    assert (c.in_channels, c.out_channels, c.channels, c.multipliers, c.classes) == (7, 3, 8, (1, 2, 2), 11)
    again = example.Palette(example.UNet(c, rng=np.random.default_rng(4)), model.process)
    require_the_average(ema, again, saved)


def test_latent_diffusion_shapes(learned):
    sizes = {"channels": 8, "ae_channels": 4, "batch": 6, "seed": 4}
    example, (model, *_), _ = learned("latent_diffusion_shapes.py", "train", **sizes)
    assert model.process.predicts == "v"
    np.testing.assert_array_equal(model.process.schedule.beta, cosine_schedule(500).beta)
    unet, text = model.denoiser.unet.config, model.denoiser.text_encoder.config
    assert (unet.channels, unet.context, unet.scale_shift, unet.heads) == (8, 8, True, 4)
    assert (unet.in_channels, unet.out_channels, unet.blocks) == (4, 4, 1)
    assert (unet.multipliers, unet.attention) == ((1, 2), (False, True))
    assert (text.layers, text.heads) == (1, 4)
    assert (text.channels, text.words, text.max_words) == (8, example.WORDS, 8)
    c = model.autoencoder.config
    assert (c.channels, c.multipliers, c.attention, c.kl_weight) == (4, (1, 2, 4), False, 1e-6)


@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize("pixels", ["gaussian", "bernoulli"])
def test_vae_digits(learned, kind, pixels):
    pytest.importorskip("sklearn")
    sizes = {"model": kind, "pixels": pixels, "latent": 3, "small_beta": 0.2}
    _, (models, train, test, *_), _ = learned("vae_digits.py", "learn_both", **sizes)
    assert [model.beta for model in models] == [1.0, 0.2]
    assert {model.latent for model in models} == {3}
    assert {type(model.pixels).__name__.lower() for model in models} == {pixels}
    first = models[0].encoder.fc if kind == "dense" else models[0].encoder.conv1
    assert first.weight.shape == ((256, 64) if kind == "dense" else (16, 1, 3, 3))
    assert (len(train), len(test)) == (1297, 500)
    assert train.shape[1:] == ((64,) if kind == "dense" else (1, 8, 8))
    assert (train.min(), train.max()) == ((0, 1) if pixels == "bernoulli" else (-1, 1))
    first, second = (model.state_dict() for model in models)
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("codebook", ["ema", "gradient"])
def test_vqvae_shapes(learned, codebook):
    sizes = {"width": 4, "dim": 3, "codes": 7, "beta": 0.4, "decay": 0.8, "codebook": codebook, "test": 8}
    _, (model, tests, *_), _ = learned("vqvae_shapes.py", "train_model", **sizes)
    q = model.quantizer
    assert (model.beta, q.decay, q.ema, q.codebook.shape) == (0.4, 0.8, codebook == "ema", (7, 3))
    assert {split: x.shape for split, x in tests.items()} == dict.fromkeys(tests, (8, 3, 32, 32))
    assert list(tests) == ["train", "held_out"]
