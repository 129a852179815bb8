"""Policies for exact tests: a table that can be any policy, and a small GPT; and a world for them."""

import numpy as np

from tinygen import nn
from tinygen.align.world import World
from tinygen.models.language.gpt import GPT, GPTConfig


class Table(nn.Module):
    """A policy with its own logits for every text so far: it can be any distribution over texts. In float64,
    so that it can be compared with what is computed exactly."""

    def __init__(self, vocab_size, length, rng):
        nodes = sum(vocab_size**depth for depth in range(length + 1))
        self.vocab_size = vocab_size
        self.weight = nn.Parameter(rng.standard_normal((nodes, vocab_size)), np.float64)

    def forward(self, tokens):
        node = np.zeros(len(tokens), np.int64)
        path = []
        for token in tokens.T:
            node = node * self.vocab_size + token + 1  # the nodes of a tree, layer by layer
            path.append(node)
        return self.weight[np.stack(path, axis=1)], None


def gpt(vocab_size=4, block_size=8, seed=0, dtype=np.float64, **changes):
    """A small GPT whose distributions are far from uniform."""
    config = GPTConfig(vocab_size, block_size, **{"n_layer": 1, "n_head": 2, "n_embd": 8, **changes})
    rng = np.random.default_rng(seed)
    model = GPT(config, rng=rng).astype(dtype)
    for p in model.parameters():
        p.data = p.data + rng.standard_normal(p.shape).astype(dtype) * 0.3
    return model


def small_world(vocab_size=3, length=3, prompts=2, seed=0):
    """Prompts of one token, and rewards without a pattern."""
    rng = np.random.default_rng(seed)
    reward = lambda prompt, responses: rng.standard_normal(len(responses))
    return World(np.arange(prompts)[:, None], vocab_size, length, reward)


def table_for(world, seed=0):
    length = world.prompts.shape[1] + world.responses.shape[1] - 1
    return Table(world.vocab_size, length, np.random.default_rng(seed))
