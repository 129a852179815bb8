"""Ablations of attention and of language models."""

from __future__ import annotations

from ablations.ablation import Ablation, Change

ATTENTION, GPT = "tinygen/ops/attention.py", "tinygen/models/language/gpt.py"
BLOCK = "tinygen/nn/transformer.py"
BRANCHES = (
    "        x = x + self.dropout(self.attn(self.ln1(x), mask, cache))\n"
    "        return x + self.dropout(self.mlp(self.ln2(x)))\n"
)

LANGUAGE = (
    Ablation(
        name="no_scale",
        chapter="attention",
        title="Attention without 1/√d",
        change=Change(ATTENTION, "    scale = 1 / math.sqrt(q.shape[-1])\n", "    scale = 1.0\n"),
        experiment="language.look_up",
        worse="higher",
        why="The product of two random vectors of d numbers has the standard deviation √d, here 16. Softmax "
        "of such scores puts nearly all weight on one key, by chance, and where it is that sure its "
        "gradient is almost 0. Divided by √d, the scores have standard deviation 1, whatever d is.",
        test="tests/nn/test_attention.py::test_self_attention_by_hand",
    ),
    Ablation(
        name="mask_future",
        chapter="attention",
        title="A causal mask that is one column too wide",
        change=Change(ATTENTION, "shape=(t, s)), s - t)\n", "shape=(t, s)), s - t + 1)\n"),
        experiment="language.markov_gpt",
        worse="higher",
        why="Each position sees the next token, which is the one that it must predict. It learns to copy "
        "it, and the loss in training falls far below the entropy, which no honest model can reach. "
        "When it writes, there is no next token to copy. A loss that is too good is a bug.",
        test="tests/ops/test_attention.py::test_no_gradient_reaches_the_future[off]",
    ),
    Ablation(
        name="mixed_heads",
        chapter="attention",
        title="Heads by a view alone, without the transpose",
        change=Change(
            "tinygen/nn/attention.py",
            "    return x.reshape(b, t, heads, c // heads).transpose(0, 2, 1, 3)\n",
            "    return x.reshape(b, heads, t, c // heads)\n",
        ),
        experiment="language.markov_gpt",
        worse="higher",
        why="The shape (B, H, T, d) is right, but the rows of a head are now pieces of other positions. The "
        "causal mask hides wrong ones, so the future leaks into the past: the loss in training falls "
        "below the entropy, and what the model writes is rubbish. A check of shapes finds nothing.",
        test="tests/nn/test_attention.py::test_heads_do_not_mix_before_the_projection",
    ),
    Ablation(
        name="no_shift",
        chapter="language models",
        title="Targets that are not shifted",
        change=Change(
            "tinygen/data/text.py", "    return ids[x], ids[x + 1]\n", "    return ids[x], ids[x]\n"
        ),
        experiment="language.markov_gpt",
        worse="higher",
        why="The target of a position must be the token after it. Here it is the token itself, which the "
        "model has just read. The loss falls to 0 within a few steps, and the model writes the same "
        "token for ever.",
        test="tests/data/test_text.py::test_y_is_x_one_token_later",
    ),
    Ablation(
        name="no_positions",
        chapter="language models",
        title="No positions",
        change=Change(
            GPT, "self.wte(idx) + self.wpe(positions))", "self.wte(idx) + 0 * self.wpe(positions))"
        ),
        experiment="language.echo_gpt",
        worse="lower",
        why="Attention takes an average over a set of keys, and a set has no order. Without positions, a "
        "block knows which tokens came before, but not where: it cannot look six places back.",
        test="tests/pages/test_equal_the_library.py::test_gpt_exactly",
    ),
    Ablation(
        name="cache_from_zero",
        chapter="language models",
        title="Positions that start at 0 behind a KV cache",
        change=Change(
            GPT,
            "        positions, seen = np.arange(start, end), None  # (T,)\n",
            "        positions, seen = np.arange(end - start), None  # (T,)\n",
        ),
        experiment="language.echo_gpt",
        worse="lower",
        why="With a cache, each new token comes alone, and here it always gets position 0. "
        "Training does not use the cache: the loss is perfect to the last digit, and only the texts are "
        "wrong. So a test must compare cached logits with the logits of a full pass.",
        test="tests/models/language/test_gpt.py::test_cached_logits_equal_the_full_pass",
    ),
    Ablation(
        name="no_residual",
        chapter="language models",
        title="Blocks without residual connections",
        change=Change(BLOCK, BRANCHES, BRANCHES.replace("x + self.dropout", "self.dropout")),
        experiment="language.deep_gpt",
        worse="higher",
        why="A residual connection hands x, and back its gradient, past the branch unchanged. Without it "
        "everything goes through sixteen branches one after the other. They are small at the start, so "
        "almost nothing of the token arrives at the top, and almost no gradient at the bottom.",
        test="tests/nn/test_transformer.py::test_block_is_its_formula",
    ),
    Ablation(
        name="no_layer_norm",
        chapter="language models",
        title="Blocks without layer norm",
        change=Change(BLOCK, BRANCHES, BRANCHES.replace("self.ln1(x)", "x").replace("self.ln2(x)", "x")),
        experiment="language.deep_gpt",
        worse="higher",
        why="Layer norm gives each branch an input of the same size, whatever the blocks below have done. "
        "Without it a large learning rate makes the stream grow from block to block: the model "
        "diverges, or learns nothing but how frequent each token is. At a third of this rate it trains "
        "about as well without.",
        test="tests/nn/test_transformer.py::test_block_is_its_formula",
    ),
    Ablation(
        name="temperature_times",
        chapter="language models",
        title="Logits times the temperature",
        change=Change(
            "tinygen/text/decoding.py", "keepdims=True)) / temperature))", "keepdims=True)) * temperature))"
        ),
        experiment="language.temperatures",
        worse="higher",
        why="Division by a temperature below 1 makes the probable tokens more probable. With a product it "
        "is the other way round. At temperature 1, where most tests run, nothing is wrong.",
        test="tests/text/test_decoding.py::test_temperature_is_a_power",
    ),
)
