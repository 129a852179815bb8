"""The example gpt2_generate.py as a user runs it: it prints text token by token, its last line has the
speed, and missing files give an error of one line."""

import os
import re
import signal
import subprocess

import numpy as np
import pytest
from example_runs import command, run

from tinygen.models.language.gpt import END, GPT, GPTConfig
from tinygen.text import BPE

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

EXAMPLE = "gpt2_generate.py"
TOKENIZER = BPE.train("the cat sat on the mat, naïve 中文", 280, special=[END])
RATE = r"\n\n(\d+) tokens(, [\d.]+ a second; the first, with the prompt of \d+, took [\d.]+ s)?\n$"


def random_model():
    rng = np.random.default_rng(0)
    model = GPT(GPTConfig(300, 64, n_layer=1, n_head=2, n_embd=16, gelu="tanh"), rng=rng)
    for p in model.parameters():
        p.data = p.data + 0.5 * rng.standard_normal(p.shape, dtype=np.float32)
    return model


def always(token):
    """A model that predicts the same token after every text."""
    model = random_model()
    model.ln_f.weight.data *= 0
    model.ln_f.bias.data = np.ones(16, np.float32)
    model.wte.weight.data[token] = 9.0
    return model


@pytest.mark.parametrize(("prompt", "begin"), [("the naïve", ""), ("", END)])
def test_it_writes_what_the_model_generates(tmp_path, prompt, begin):
    """The example prints the text that the model samples. Without a prompt, the text begins after END."""
    model = random_model()
    model.save_pretrained(tmp_path, TOKENIZER)
    done = run(EXAMPLE, "--model", tmp_path, "--prompt", prompt, "--tokens", 40, "--temperature", 0)
    assert done.returncode == 0, done.stderr
    head, text = done.stdout.split("\n\n", 1)
    assert head.startswith(f"{model.num_parameters():,} parameters, read in ")
    ids = TOKENIZER.encode(begin + prompt, "all")
    ids = model.sample(ids[None], 40, temperature=0, rng=np.random.default_rng(0))[0]
    written = TOKENIZER.decode(ids[ids < 280]).removeprefix(begin)
    assert END not in written
    assert text[: re.search(RATE, text).start()] == written
    assert re.search(RATE, text)[1] == "40"
    assert re.search(RATE, text)[2]


def test_the_seed_decides(tmp_path):
    random_model().save_pretrained(tmp_path, TOKENIZER)
    flags = ["--model", tmp_path, "--tokens", 30, "--temperature", 2, "--top-k", 50, "--top-p", 0.9]
    texts = [
        re.split(r"\n\n\d+ tokens", run(EXAMPLE, *flags, "--seed", seed).stdout.split("\n\n", 1)[1])[0]
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("Once upon a time")


def test_the_text_ends_where_the_model_ends_it(tmp_path):
    always(TOKENIZER.special[END]).save_pretrained(tmp_path, TOKENIZER)
    done = run(EXAMPLE, "--model", tmp_path, "--prompt", "", "--temperature", 0)
    assert done.returncode == 0, done.stderr
    assert re.search(RATE, done.stdout).groups() == ("0", None)


def test_tokens_without_text_are_left_out(tmp_path):
    always(299).save_pretrained(tmp_path, TOKENIZER)
    done = run(EXAMPLE, "--model", tmp_path, "--prompt", "cat", "--temperature", 0, "--tokens", 5)
    assert done.stdout.split("\n\n", 1)[1].startswith("cat\n\n5 tokens, ")


def test_text_comes_while_the_model_writes_and_ctrl_c_ends_it(tmp_path):
    word = "incomprehensibilities"
    tokenizer = BPE.train(word, 280, special=[END])
    always(tokenizer.encode(word)[0]).save_pretrained(tmp_path, tokenizer)
    process = subprocess.Popen(
        command(EXAMPLE, "--model", tmp_path, "--tokens", 1_000_000_000),
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # after a shell's "&" ignored
    )
    pieces = []
    while sum(map(len, pieces)) < 30_000:
        pieces.append(os.read(process.stdout.fileno(), 1 << 16))
    assert min(map(len, pieces[2:])) < 4096  # without a flush, output comes in blocks of 8192 bytes
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert re.search(RATE, rest.decode())


def test_what_does_not_fit_is_said_in_a_line(tmp_path):
    """Two errors of one line: a tokenizer with more tokens than the model has, and half a character in the
    prompt."""
    random_model().save_pretrained(tmp_path, TOKENIZER)
    done = run(EXAMPLE, "--model", tmp_path, "--prompt", "a\udcff")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--prompt 'a\\udcff' is not UTF-8" in done.stderr
    BPE.train("".join(map(chr, range(32, 600))), 301, special=[END]).save(tmp_path)
    done = run(EXAMPLE, "--model", tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "the tokenizer has 301 tokens, the model 300" in done.stderr


def test_what_is_missing_is_said_in_a_line(tmp_path):
    done = run(EXAMPLE)
    assert done.returncode == 2
    assert "config.json, model.safetensors, vocab.json and merges.txt" in done.stderr
    assert "https://huggingface.co/openai-community/gpt2" in done.stderr
    TOKENIZER.save(tmp_path)
    for folder, message in (
        (
            tmp_path / "none",
            "vocab.json: cannot be read: .* none with this name: --model must be",
        ),
        (tmp_path, "config.json: can"),
    ):
        done = run(EXAMPLE, "--model", folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(message, done.stderr)
        assert done.stderr.count("\n") == 1
