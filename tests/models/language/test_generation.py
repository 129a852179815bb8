"""Writing for users: padding on the left changes nothing, texts end with an end token, and several samples of
one text are drawn at once."""

import os
from itertools import islice

import numpy as np
import pytest

from tinygen import no_grad
from tinygen.models.language.gpt import GPT, GPTConfig
from tinygen.models.language.linear import LinearLM
from tinygen.models.language.llama import Llama, LlamaConfig

MODELS = {
    "gpt": lambda: GPT(GPTConfig(11, 24, 2, 2, 8), rng=0),
    "llama": lambda: Llama(LlamaConfig(11, 24, 2, 4, 2, 16, qkv_bias=True), rng=0),
}


@pytest.fixture(params=MODELS)
def model(request):
    """In float64, with weights far larger than at the start of training."""
    model, rng = MODELS[request.param]().astype(np.float64).eval(), np.random.default_rng(1)
    for p in model.parameters():
        p.data = p.data + (0.6 if p.ndim == 2 else 0.1) * rng.standard_normal(p.shape)
    return model


TEXTS = [[5, 6, 7, 8, 9], [3, 4], [2, 9, 1, 7]]
WIDE = 7
IDX = np.array([[0] * (WIDE - len(text)) + text for text in TEXTS])
MASK = np.array([[False] * (WIDE - len(text)) + [True] * len(text) for text in TEXTS])


# -- padding ---------------------------------------------------------------------------------------


def test_left_padding_changes_no_logits(model):
    """Those of the prompt, and of tokens that come one by one."""
    together, alone = model.reader(MASK), [model.reader() for _ in TEXTS]
    with no_grad():
        new, rows = IDX, [np.array([text]) for text in TEXTS]
        for step in range(30):  # beyond block_size, too
            logits = together(new)
            expected = np.concatenate([read(row) for read, row in zip(alone, rows, strict=True)])
            np.testing.assert_allclose(logits, expected, rtol=1e-8, atol=1e-10)
            new = np.random.default_rng(step).integers(0, 11, (3, 1))
            rows = [new[i : i + 1] for i in range(3)]


def test_the_tokens_of_padding_do_not_count(model):
    """To the bit, in all that is written."""
    other = np.where(MASK, IDX, 10)
    with no_grad():
        np.testing.assert_array_equal(model.reader(MASK)(IDX), model.reader(MASK)(other))


def test_a_padded_batch_writes_what_each_text_would(model):
    found = model.sample(IDX, 25, temperature=0, mask=MASK, rng=0)
    for row, text in zip(found, TEXTS, strict=True):
        alone = model.sample([text], 25, temperature=0, rng=0)[0]
        np.testing.assert_array_equal(row[WIDE - len(text) :], alone)
    assert len(np.unique(found[:, WIDE:])) > 2


def test_a_mask_of_true_is_no_mask(model):
    with no_grad():
        ours, theirs = model.reader(np.ones((3, WIDE), bool))(IDX), model.reader()(IDX)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (MASK[:, ::-1], ValueError, "a text ends with padding: put the padding before the texts"),
        (MASK & (np.arange(WIDE) != 4), ValueError, "put the padding before the texts"),
        (MASK & False, ValueError, "a text ends with padding"),
        (MASK[:2], ValueError, r"the mask has shape \(2, 7\), the tokens \(3, 7\)"),
        (MASK.astype(int), TypeError, "the mask has dtype int64: bools are needed"),
    ],
)
def test_masks_that_do_not_fit(model, mask, error, message):
    with pytest.raises(error, match=message):
        model.sample(IDX, 2, mask=mask, rng=0)


def test_a_mask_of_one_token(model):
    """The shortest text has nothing before it."""
    one = IDX[:, :1]
    for true, given in ((True, np.ones_like(one, bool)), (False, np.zeros_like(one, bool))):
        if true:
            found = model.sample(one, 2, 0, mask=given, rng=0)
            np.testing.assert_array_equal(found, model.sample(one, 2, 0, rng=0))
        else:
            with pytest.raises(ValueError, match="a text ends with padding"):
                model.sample(one, 2, 0, mask=given, rng=0)


# -- ends ------------------------------------------------------------------------------------------


def test_a_row_that_has_ended_repeats_its_end(model):
    ends = (4, 6)
    found = model.sample(IDX, 400, 2.0, mask=MASK, end=ends, rng=0)
    assert found.shape[1] < WIDE + 400  # all rows have ended
    last = []
    for row in found[:, WIDE:]:
        first = next(i for i, token in enumerate(row) if token in ends)
        assert set(row[first:].tolist()) == {row[first]}
        last.append(first)
    assert max(last) == found.shape[1] - WIDE - 1  # it stops with the last row
    assert len(set(last)) > 1


def test_ends_change_no_token_before_them(model):
    plain = model.sample(IDX, 12, 0, mask=MASK, rng=0)[:, WIDE:]
    ended = model.sample(IDX, 12, 0, mask=MASK, end=int(plain[0, 5]), rng=0)[:, WIDE:]
    for ours, theirs in zip(ended, plain, strict=True):
        before = next((i for i, token in enumerate(theirs) if token == plain[0, 5]), 12)
        np.testing.assert_array_equal(ours[:before], theirs[:before])


def test_an_end_in_the_prompt_ends_nothing(model):
    steps = model.sample_steps([[3, 4, 4]], end=4, rng=0)
    assert next(steps).shape == (1,)
    assert len(list(islice(model.sample_steps([[4]], rng=0), 50))) == 50  # without `end` it goes on


def test_every_language_model_ends():
    found = LinearLM(5, 3, 4, rng=0).sample([[1, 2]], 1000, end=3, rng=0)
    assert found[0, -1] == 3
    assert (found[0, 2:-1] != 3).all()


# -- several samples, one at a time ----------------------------------------------------------------


def test_several_samples_of_one_text(model):
    """Rows are draws of their own, each from the model's distribution."""
    n = 4000
    first = next(model.sample_steps(np.repeat([[5, 6, 7]], n, axis=0), 3.0, rng=0))
    with no_grad():
        logits = model.reader()(np.array([[5, 6, 7]]))[0] / 3
    p = np.exp(logits - logits.max())
    p /= p.sum()
    assert (np.abs(np.bincount(first, minlength=11) / n - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()


def test_tokens_come_one_by_one(model):
    """`sample` is what `sample_steps` yields; a step computes nothing ahead."""
    steps = model.sample_steps(IDX, 1.5, 5, 0.9, mask=MASK, rng=3)
    found = np.stack(list(islice(steps, 9)), axis=1)
    np.testing.assert_array_equal(model.sample(IDX, 9, 1.5, 5, 0.9, mask=MASK, rng=3)[:, WIDE:], found)


# -- parity with transformers ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_transformers_writes_the_same_for_a_padded_batch(kind, tmp_path):
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model, rng = MODELS[kind]().eval(), np.random.default_rng(1)
    for p in model.parameters():
        p.data = p.data + 0.6 * rng.standard_normal(p.shape, dtype=np.float32)
    model.save_pretrained(tmp_path)
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        expected = other.generate(
            torch.tensor(IDX),
            attention_mask=torch.tensor(MASK.astype(int)),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
        ).numpy()
    found = model.sample(IDX, 12, temperature=0, mask=MASK, rng=0)
    np.testing.assert_array_equal(found, expected)
