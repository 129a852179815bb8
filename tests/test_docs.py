"""The code in docs/ runs."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi import mpi

from tinygen import Tensor, nn, ops
from tinygen.models.language.bart import BART, BARTConfig
from tinygen.models.language.bert import BERT, BERTConfig
from tinygen.models.language.gpt import END, GPT, GPTConfig
from tinygen.models.language.llama import Llama, LlamaConfig
from tinygen.models.language.t5 import T5, T5Config
from tinygen.models.text_to_image.clip import CLIP
from tinygen.models.text_to_image.clip_encoders import TextTower, TowerConfig, VisionTransformer
from tinygen.text import BPE
from tinygen.text.bpe import LETTERS

DOCS = Path(__file__).parents[1] / "docs"
PATHS = {**os.environ, "PYTHONPATH": str(DOCS.parent)}


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def run_blocks(name, folder, monkeypatch):
    """Run the code of a page in order, in an empty folder; its asserts are the test. Returns its names."""
    monkeypatch.chdir(folder)
    names = {}
    for block in blocks(name):
        exec(block, names)
    return names


def test_from_pytorch(tmp_path, monkeypatch):
    names = run_blocks("from_pytorch.md", tmp_path, monkeypatch)
    words = [
        line.split("|")[2] for line in (DOCS / "from_pytorch.md").read_text().splitlines() if "|" in line
    ]
    here = [word for cell in words for word in re.findall(r"`((?:np|ops|nn|optim|tinygen)\.[\w.]+)", cell)]
    assert len(here) > 15
    for word in here:
        assert eval(word, names) is not None


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with the files of docs/write_your_own.md: the blocks that begin with a name."""
    for block in blocks("write_your_own.md"):
        if name := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / name[1]).write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("moons", "train"):
        sys.modules.pop(name, None)


def test_write_your_own(own, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    pytest.importorskip("hypothesis")
    names = run_blocks("write_your_own.md", own, monkeypatch)
    names["test_swish"]()
    assert (own / "moons.png").stat().st_size > 5000
    assert "Gaussian" in capsys.readouterr().out


def test_a_first_loss_is_known(own):
    moons = importlib.import_module("moons")
    rng = np.random.default_rng(0)
    flow = moons.Flow(8, rng=rng)
    x, noise, bias = moons.points(20, rng), rng.standard_normal((20, 2)), flow.leave.bias.numpy()
    first = flow.loss(x, noise, rng.random((20, 1))).item()
    assert first == pytest.approx(np.mean(np.sum((bias - (x - noise)) ** 2, axis=1)), rel=1e-5)


def test_write_your_own_in_two_processes(own):
    pytest.importorskip("mpi4py")
    one = subprocess.run(
        [sys.executable, own / "two.py"], capture_output=True, text=True, check=True, env=PATHS
    )
    two = mpi(2, own / "two.py", PYTHONPATH=str(DOCS.parent))
    assert two.stdout == one.stdout, two.stderr
    assert one.stdout.startswith("loss ")


def test_the_report_of_write_your_own(own):
    """The printed report is the page's, but for the time and the last digits of errors."""
    run = [sys.executable, "layer.py"]
    printed = subprocess.run(run, capture_output=True, text=True, check=True, cwd=own, env=PATHS).stdout
    [shown] = re.findall(r"```text\n(.*?)```", (DOCS / "write_your_own.md").read_text(), re.DOTALL)

    def steady(report):
        return re.sub(r"[\d.]+ s,|± \S+|off by \d\S+ at most", "", report).strip()

    assert steady(printed) == steady(shown)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("x.view(2)", "x.reshape"),
        ("x.permute(0)", "x.transpose"),
        ("x.unsqueeze(0)", "x[:, None] or np.expand_dims(x, axis)"),
        ("x.expand(2, 2)", "np.broadcast_to"),
        ("x.exp()", "np.exp(x)"),
        ("x.add_(1)", "x = x + y"),
        ("x.sum(dim=0)", "axis="),
        ("np.asarray(x)", "t.numpy()"),
        ("float(x.sum())", "t.item()"),
        ("ops.mse(np.ones((2, 3)), x)", "must have one shape"),
        ("ops.attention(w, w, w, mask=np.zeros((2, 2)))", "True where a query may look"),
    ],
)
def test_what_from_pytorch_says_of_errors(written, instead):
    x, w = Tensor([1.0, 2.0], requires_grad=True), np.ones((2, 2))
    with pytest.raises((AttributeError, TypeError, ValueError), match=re.escape(instead)):
        eval(written, {"x": x, "w": w, "np": np, "ops": ops})


def test_what_from_pytorch_says_of_writes():
    x = Tensor([1.0, 2.0], requires_grad=True)
    loss = np.sum(x**2)
    x.data -= 1
    with pytest.raises(RuntimeError, match="written into between forward and backward"):
        loss.backward()
    for array in (lambda: x.data, x.numpy):
        x.data, x.grad = np.array([1.0, 2.0]), None
        loss = np.sum(x**2)
        array()[0] = 7
        loss.backward()
        np.testing.assert_array_equal(x.grad, [14, 4])  # not [2, 4], and no error


@pytest.mark.filterwarnings("ignore:reduction")  # PyTorch plans another mean of kl_div
def test_what_from_pytorch_says_of_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(0)
    logits, ids = rng.standard_normal((2, 5, 7)), rng.integers(7, size=(2, 5))
    theirs = F.cross_entropy(torch.tensor(logits).transpose(1, 2), torch.tensor(ids))
    np.testing.assert_allclose(ops.cross_entropy(logits, ids), theirs, rtol=1e-12)
    log_p, log_q = ops.log_softmax(logits), ops.log_softmax(logits[::-1])
    theirs = F.kl_div(torch.tensor(log_q), torch.tensor(np.exp(log_p)), reduction="mean")
    np.testing.assert_allclose(ops.kl_categorical(log_p, log_q), 7 * theirs, rtol=1e-12)
    assert torch.tensor([1.0, 2.0, 3.0]).std() == 1
    q, k, v = rng.standard_normal((3, 4, 6))
    mask = np.tri(4, dtype=bool)
    theirs = F.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), attn_mask=torch.tensor(mask))
    np.testing.assert_allclose(ops.attention(q, k, v, mask=mask), theirs, rtol=1e-12)
    own = nn.Sequential(nn.Linear(6, 6, rng=0), nn.LayerNorm(6))
    layers = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.LayerNorm(6))
    images = torch.nn.Conv2d(2, 3, 3), torch.nn.Embedding(3, 2)
    for mine, other, x in (
        (own, layers, q.astype(np.float32)),
        (nn.Conv2d(2, 3, 3, rng=0), images[0], rng.standard_normal((1, 2, 5, 5), dtype=np.float32)),
        (nn.Embedding(3, 2, rng=0), images[1], np.array([0, 2])),
    ):
        mine.load_state_dict({name: t.numpy() for name, t in other.state_dict().items()})
        theirs = other(torch.tensor(x)).detach()
        np.testing.assert_allclose(mine(x).numpy(), theirs, rtol=1e-5, atol=1e-6)


def test_gpt2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tokenizer = BPE.train("Once upon a time", 262, special=[END])
    config = GPTConfig(262, 64, n_layer=1, n_head=2, n_embd=8, gelu="tanh")
    GPT(config, rng=np.random.default_rng(0)).save_pretrained("gpt2", tokenizer)
    [code] = blocks("gpt2.md")
    exec(code, names := {})
    assert capsys.readouterr().out.startswith("Once upon a time")
    assert names["ids"].shape == (1, names["idx"].shape[1] + 20)
    assert sorted(path.name for path in Path("mine").iterdir()) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "vocab.json",
    ]


def test_hugging_face(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes = LlamaConfig(60, 64, layers=1, heads=2, kv_heads=1, channels=8, tie_weights=True)
    Llama(sizes, rng=0).save_pretrained("smollm2")
    tokens = {LETTERS[byte]: byte for byte in range(256)}
    cut = {"type": "ByteLevel", "add_prefix_space": False}
    tokenizer = {"model": {"type": "BPE", "vocab": tokens, "merges": []}, "pre_tokenizer": cut}
    Path("smollm2/tokenizer.json").write_text(json.dumps(tokenizer))
    sizes = {"block_size": 8, "layers": 1, "heads": 2, "channels": 8, "hidden": 6}
    BERT(BERTConfig(2004, **sizes), rng=0).save_pretrained("bert-base-uncased")
    tower = TowerConfig(layers=1, heads=1, channels=4, hidden=8)
    image, text = VisionTransformer(8, 4, 3, tower, 5, rng=0), TextTower(11, 7, 5, tower, 5, rng=0)
    CLIP(image, text).save_pretrained("clip-vit-base-patch32")
    sizes = {"layers": 1, "decoder_layers": 1, "heads": 2, "channels": 8, "hidden": 6}
    T5(T5Config(20, **sizes, head_channels=3), rng=0).save_pretrained("t5-small")
    BART(BARTConfig(20, 30, **sizes), rng=0).save_pretrained("bart-base")
    code, bert, repair, generation, clip, tokenizers = blocks("hugging_face.md")
    exec(code, names := {})
    exec(bert, read := {})
    assert read["logits"].shape == (1, 5, 2004)
    exec(repair, repaired := {})
    assert len(repaired["best"]) == 2
    assert repaired["ids"].shape[0] == 1
    exec(generation, written := {})
    assert written["four"].shape == (4, 22)
    assert written["token"].shape == (1,)
    exec(clip, seen := {"pictures": np.zeros((2, 3, 8, 8), np.float32), "ids": np.full((4, 7), 5)})
    np.testing.assert_allclose(seen["p"].numpy().sum(axis=1), 1, rtol=1e-6)
    exec(tokenizers, found := {})
    assert found["text"] == "Once upon a time"
    assert names["ids"].shape == (1, 23)
    assert sorted(path.name for path in Path("mine").iterdir()) == ["config.json", "model.safetensors"]


def test_alignment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    GPT(GPTConfig(9, 8, n_layer=1, n_head=2, n_embd=8), rng=np.random.default_rng(0)).save_pretrained("base")
    [code] = blocks("alignment.md")
    exec(code, names := {})
    assert sorted(path.name for path in Path().glob("*/*")) == [
        *("adapter_config.json", "adapter_model.safetensors"),
        *("config.json", "config.json", "model.safetensors", "model.safetensors"),
    ]
    x = np.arange(8)[None]
    merged = GPT.from_pretrained("merged")
    np.testing.assert_array_equal(names["model"](x)[0].numpy(), merged(x)[0].numpy())


def test_density(capsys):
    [code] = blocks("density.md")
    exec(code, names := {})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    scores = {name: float(score) for name, score, *_ in printed}
    assert scores["Empirical"] == -np.inf
    assert scores["GaussianMixture"] > scores["GaussianKDE"] > scores["ProbabilisticPCA"]
    assert names["new"].shape == names["shares"].shape == (5, 2)
    assert names["best"] == 2
    assert names["near"].shape == names["test"].shape


def test_parallel(capsys):
    [code] = blocks("parallel.md")
    exec(code, names := {})
    first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert round(float(first[0]), 2) == 0.73  # as the comment says
    assert int(second[0]) == names["buckets"] > 1
    assert float(second[1]) == names["step"].seconds(8, names["ethernet"], names["buckets"])
    assert 0 < float(second[2]) < 1


def test_arrays():
    plain, spectra, dlpack, einops = blocks("arrays.md")
    exec(plain, names := {})
    assert names["y"].requires_grad
    assert names["a"].requires_grad
    exec(spectra, names)
    expected = 2 * np.abs(names["spectrum"].numpy()) ** 2 * names["filter"].numpy()
    np.testing.assert_allclose(names["filter"].grad, expected, rtol=1e-12)
    pytest.importorskip("torch")
    exec(dlpack, names)
    assert names["x"].numpy().ctypes.data == names["t"].data_ptr() == names["u"].data_ptr()
    pytest.importorskip("einops")
    exec(einops, names)
    assert names["scores"].shape == (2, 4, 6, 6)
    assert names["x"].grad.shape == (2, 6, 8)


def test_language_models(capsys):
    for code in blocks("language_models.md"):
        exec(code, {})
    assert "which topic : " in capsys.readouterr().out
