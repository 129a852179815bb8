"""The example generate.py as a user runs it: it prints text token by token, its last line has the
speed, and missing files give an error of one line."""

import json
import os
import re
import signal
import subprocess

import numpy as np
import pytest
from example_runs import command, run

from tinygen.models.language.bart import BART, BARTConfig
from tinygen.models.language.gpt import END, GPT, GPTConfig
from tinygen.models.language.llama import Llama, LlamaConfig
from tinygen.models.language.t5 import T5, T5Config
from tinygen.text import BPE
from tinygen.text.bpe import LETTERS

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

EXAMPLE = "generate.py"
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


ROBERTA = {"type": "RobertaProcessing", "sep": ["</s>", 257], "cls": ["<s>", 256]}
PIECES = [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "</s>"}}]
AROUND = {  # the post_processor, and the tokens before and behind a text
    "llama": ({"type": "TemplateProcessing", "single": PIECES[:2]}, [256], []),
    "t5": (
        {"type": "Sequence", "processors": [{"type": "TemplateProcessing", "single": PIECES[1:]}]},
        [],
        [257],
    ),
    "bart": (ROBERTA, [256], [257]),
}


def tokenizer_json(folder, special=(), around=None):
    """The 256 bytes as a vocabulary, and special tokens."""
    tokens = {LETTERS[byte]: byte for byte in range(256)}
    added = [{"id": 256 + i, "content": name, "special": True} for i, name in enumerate(special)]
    file = {"model": {"type": "BPE", "vocab": tokens, "merges": []}, "added_tokens": added}
    file["post_processor"] = around
    file["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False}
    (folder / "tokenizer.json").write_text(json.dumps(file))


def shaken(model):
    rng = np.random.default_rng(1)
    for p in model.parameters():
        p.data = p.data + 0.5 * rng.standard_normal(p.shape, dtype=np.float32)
    return model.eval()


SIZES = {"layers": 1, "decoder_layers": 1, "heads": 2, "channels": 8, "hidden": 6}
FAMILIES = {
    "llama": lambda: Llama(LlamaConfig(260, 64, 1, 2, 1, 8), rng=0),
    "t5": lambda: T5(T5Config(260, **SIZES, head_channels=3, end=257), rng=0),
    "bart": lambda: BART(BARTConfig(260, 99, **SIZES, pad=258, begin=257, end=257), rng=0),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_writes(tmp_path, family):
    model = shaken(FAMILIES[family]())
    model.save_pretrained(tmp_path)
    around, before, behind = AROUND[family]
    tokenizer_json(tmp_path, ["<s>", "</s>", "<pad>"], around)
    done = run(EXAMPLE, "--model", tmp_path, "--prompt", "the cat", "--tokens", 12, "--temperature", 0)
    assert done.returncode == 0, done.stderr
    ids = [*before, *b"the cat", *behind]
    if family == "llama":
        new = model.sample([ids], 12, temperature=0, rng=0)[0, len(ids) :]
    else:
        new = model.greedy_search([ids], 12)[0]
    text = bytes(token for token in new.tolist() if token < 256).decode(errors="replace")
    expected = ("the cat" if family == "llama" else "") + text
    assert done.stdout.split("\n\n", 1)[1].startswith(expected + "\n\n")


def test_a_t5_with_pieces(tmp_path):
    """The kind of tokenizer that T5 has; without a tokenizer, the error says so."""
    model = shaken(T5(T5Config(30, **SIZES, head_channels=3), rng=0))
    model.save_pretrained(tmp_path)
    done = run(EXAMPLE, "--model", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "tokenizer.json: cannot be read: expected a file, found none with this name" in done.stderr
    names = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    file = {"model": {"type": "Unigram", "unk_id": 2, "vocab": [[name, -1.0] for name in names]}}
    file["added_tokens"] = [{"id": i, "content": name, "special": True} for i, name in enumerate(names[:3])]
    marks = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, marks]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    done = run(EXAMPLE, "--model", tmp_path, "--prompt", "the cat", "--tokens", 12, "--temperature", 0)
    assert done.returncode == 0, done.stderr
    ids = [names.index(char) for char in "▁the▁cat"]
    new = [int(token) for token in model.greedy_search([ids], 12)[0] if token > 2]
    text = "".join(names[token] for token in new).replace("▁", " ").removeprefix(" ")
    assert text
    assert done.stdout.split("\n\n", 1)[1].startswith(text + "\n\n")


def test_several_samples(tmp_path):
    random_model().save_pretrained(tmp_path, TOKENIZER)
    flags = ["--model", tmp_path, "--prompt", "cat", "--tokens", 9, "--temperature", 2, "--samples", 3]
    done = run(EXAMPLE, *flags)
    assert done.returncode == 0, done.stderr
    parts = re.split(r"\[[123]\] cat", done.stdout)
    assert len(parts) == 4
    assert len(set(parts[1:])) == 3


TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}!{% endif %}"
)


def test_chat(tmp_path):
    """The template makes the prompt, its special tokens are found in it, and the answer alone is printed."""
    pytest.importorskip("jinja2")
    model = shaken(FAMILIES["llama"]())
    model.save_pretrained(tmp_path)
    tokenizer_json(tmp_path, ["<|user|>"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    done = run(EXAMPLE, "--model", tmp_path, "--chat", "--prompt", "hi", "--tokens", 7, "--temperature", 0)
    assert done.returncode == 0, done.stderr
    new = model.sample([[256, *b"hi!"]], 7, temperature=0, rng=0)[0, 4:]
    text = bytes(token for token in new.tolist() if token < 256).decode(errors="replace")
    assert done.stdout.split("\n\n", 1)[1].startswith(text + "\n\n7 tokens")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template: leave --chat out"),
        ("{{ raise_exception('no user') }}", "the chat template refuses this message: no user"),
        ("{{ messages.__class__.__mro__ }}", "access to attribute '__class__'"),
        ("{% for %}", "cannot be filled in"),
    ],
)
def test_chats_that_cannot_be(tmp_path, template, message):
    pytest.importorskip("jinja2")
    FAMILIES["llama"]().save_pretrained(tmp_path)
    tokenizer_json(tmp_path)
    if template is not None:
        (tmp_path / "chat_template.jinja").write_text(template)
    done = run(EXAMPLE, "--model", tmp_path, "--chat")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


def test_families_and_tokenizers_that_are_not_read(tmp_path):
    FAMILIES["t5"]().save_pretrained(tmp_path)
    file = {"model": {"type": "Unigram"}, "normalizer": {"type": "NFKC"}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    done = run(EXAMPLE, "--model", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the field normalizer.type: expected 'Precompiled', found 'NFKC'" in done.stderr
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    done = run(EXAMPLE, "--model", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "models of the type 'mamba' are not read" in done.stderr


def test_what_is_missing_is_said_in_a_line(tmp_path):
    done = run(EXAMPLE)
    assert done.returncode == 2
    assert "config.json, model.safetensors and the tokenizer of a gpt2, llama" in done.stderr
    assert "https://huggingface.co/openai-community/gpt2" in done.stderr
    TOKENIZER.save(tmp_path)
    for folder in (tmp_path / "none", tmp_path):
        done = run(EXAMPLE, "--model", folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search("config.json: cannot be read: .* none with this name: --model must be", done.stderr)
        assert done.stderr.count("\n") == 1
