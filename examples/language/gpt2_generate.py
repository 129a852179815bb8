"""Let a GPT-2 continue a text, token by token, with a cache of the keys and values of past tokens.

    hf download openai-community/gpt2 config.json model.safetensors vocab.json merges.txt --local-dir gpt2
    python examples/language/gpt2_generate.py --model gpt2 --prompt "Once upon a time"

The folder may hold a larger GPT-2, a fine-tuned one, or a model that `GPT.save_pretrained` wrote
(docs/gpt2.md). The weights of the smallest GPT-2 are 548 MB.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np
from shared.flags import Flags, add_device_flag, number

from tinygen.models.language.gpt import END, GPT
from tinygen.storage.files import CheckpointError
from tinygen.text import BPE

FILES = "a folder with the four files config.json, model.safetensors, vocab.json and merges.txt of a GPT-2"
WHERE = (
    f"--model is needed: {FILES}. The smallest is at https://huggingface.co/openai-community/gpt2 (548 MB), "
    "under Files; the first lines of this script have a command that fetches them"
)


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__)
    add = parser.add_argument
    add("--model", help=FILES)
    add("--prompt", default="Once upon a time", help='how the text begins; "" leaves it to the model')
    add("--tokens", type=number(int, 1), default=200, help="to write at most: a text may end earlier")
    add(
        "--temperature",
        type=number(float, 0),
        default=0.8,
        help="below 1 bolder, above 1 wilder; 0 is greedy",
    )
    add("--top-k", type=number(int, 1), default=None, help="draw from the k most probable tokens only")
    add(
        "--top-p",
        type=number(float, 1e-9, 1),
        default=None,
        help="draw from the fewest with this probability",
    )
    add("--seed", type=number(int, 0), default=1337, help="of the draws")
    add_device_flag(parser)
    args = parser.parse_args()
    if args.model is None:
        args.error(WHERE)
    try:
        args.prompt.encode()
    except UnicodeEncodeError:
        args.error(f"--prompt {args.prompt!a} is not UTF-8")
    return args


def main(args: argparse.Namespace) -> None:
    began = time.perf_counter()
    try:
        tokenizer = BPE.load(args.model, special=[END])
        model = GPT.from_pretrained(args.model, dropout=0.0).to(args.device)
    except CheckpointError as error:
        args.error(f"{error}: --model must be {FILES}")
    except ValueError as error:
        args.error(str(error))
    if tokenizer.vocab_size > (size := model.config.vocab_size):
        args.error(f"{args.model}: the tokenizer has {tokenizer.vocab_size} tokens, the model {size}")
    print(f"{model.num_parameters():,} parameters, read in {time.perf_counter() - began:.1f} s\n")

    end = tokenizer.special[END]
    prompt = tokenizer.encode(args.prompt).tolist() or [end]  # without a prompt, begin a new text
    rng = np.random.default_rng(args.seed)
    stream = model.sample_steps([prompt], args.temperature, args.top_k, args.top_p, rng=rng)
    times = [time.perf_counter()]

    def tokens() -> Iterator[int]:
        for (token,) in islice(stream, args.tokens):
            if token == end:
                return
            times.append(time.perf_counter())
            if token < tokenizer.vocab_size:  # ids above these only pad the vocabulary, and have no text
                yield token

    print(args.prompt, end="", flush=True)
    try:
        for piece in tokenizer.decode_stream(tokens()):
            print(piece, end="", flush=True)
    finally:  # after Ctrl-C too
        n = len(times) - 1
        print(f"\n\n{n} tokens", end="")
        if n > 1:
            rate, first = (n - 1) / (times[-1] - times[1]), times[1] - times[0]
            print(
                f", {rate:.1f} a second; the first, with the prompt of {len(prompt)}, took {first:.2f} s",
                end="",
            )
        print()


if __name__ == "__main__":
    start(parse_args, main)
