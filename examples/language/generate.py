"""Let a language model write, token by token: GPT-2, Llama and its relatives, T5, BART.

    hf download HuggingFaceTB/SmolLM2-135M-Instruct --include "*.json" "*.safetensors" --local-dir smollm2
    python examples/language/generate.py --model smollm2 --prompt "Once upon a time"
    python examples/language/generate.py --model smollm2 --chat --prompt "Why is the sky blue?"

A folder has config.json, the weights in safetensors, and a tokenizer: tokenizer.json, or vocab.json and
merges.txt of a GPT-2 (docs/hugging_face.md lists what is read). GPT-2 and Llama continue the prompt; T5 and
BART read it, and write another text. With --chat the prompt is a message, which is put into the form that the
model has learned to answer: the folder has it as a template.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).parents[1]))  # examples/, which has shared/

from shared.endings import start

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from shared.flags import Flags, add_device_flag, number
from shared.prompts import chat_prompt, end_tokens, options_in, read_tokenizer, tokens_around

from tinygen.models import BART, GPT, T5, Llama
from tinygen.storage.files import CheckpointError, read_json

CONTINUE: dict[str, Callable[[str], Any]] = {
    "gpt2": lambda folder: GPT.from_pretrained(folder, dropout=0.0),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), Llama.from_pretrained),
}
READ: dict[str, Callable[[str], Any]] = {
    "t5": lambda folder: T5.from_pretrained(folder, dropout=0.0),
    "bart": lambda folder: BART.from_pretrained(folder, dropout=0.0),
}
FAMILIES = CONTINUE | READ
FILES = f"a folder with config.json, model.safetensors and the tokenizer of a {', '.join(FAMILIES)}"
WHERE = (
    f"--model is needed: {FILES}. The smallest GPT-2 is at https://huggingface.co/openai-community/gpt2 "
    "(548 MB), under Files; the first lines of this script have a command that fetches a smaller model"
)


def parse_args() -> argparse.Namespace:
    parser = Flags(__doc__)
    add = parser.add_argument
    add("--model", help=FILES)
    add("--prompt", default="Once upon a time", help='how the text begins, or what is read; "" for none')
    add("--chat", action="store_true", help="the prompt is a message, and the model answers it")
    add("--samples", type=number(int, 1), default=1, help="texts to write at once")
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
    began, folder = time.perf_counter(), Path(args.model)
    try:
        family = str(read_json(folder / "config.json", 1_000_000).get("model_type"))
        if family not in FAMILIES:
            args.error(f"{folder}: models of the type {family!r} are not read: --model must be {FILES}")
        tokenizer = read_tokenizer(folder)
        ends, (before, behind) = end_tokens(folder, tokenizer), tokens_around(folder, tokenizer)
        prompt = chat_prompt(folder, args.prompt) if args.chat else args.prompt
        model = FAMILIES[family](args.model).to(args.device)
    except CheckpointError as error:
        args.error(f"{error}: --model must be {FILES}")
    except ImportError:
        args.error("--chat needs Jinja2, which fills in chat templates: pip install jinja2")
    except ValueError as error:
        args.error(str(error))
    if tokenizer.vocab_size > (size := model.config.vocab_size):
        args.error(f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model {size}")
    print(f"{model.num_parameters():,} parameters, read in {time.perf_counter() - began:.1f} s\n")

    ids = tokenizer.encode(prompt, "all" if args.chat else ()).tolist()
    if not args.chat:  # a template has these tokens itself
        ids = [*before, *ids, *(behind if family in READ else [])]
    first = options_in(folder, "config.json").get("bos_token_id")
    ids = ids or ([first] if isinstance(first, int) else ends[:1])  # without a prompt, begin a new text
    shown = "" if family in READ or args.chat else args.prompt
    texts, rng = np.tile(np.array(ids), (args.samples, 1)), np.random.default_rng(args.seed)
    given = {"end": ends} if family in CONTINUE else {}
    stream = model.sample_steps(texts, args.temperature, args.top_k, args.top_p, rng=rng, **given)
    times = [time.perf_counter()]

    def rows() -> Iterator[Any]:
        """The tokens (samples,) of each step."""
        for tokens in islice(stream, args.tokens):
            if not np.isin(tokens, ends).all():
                times.append(time.perf_counter())
            yield tokens

    def with_text(tokens: Iterable[int]) -> Iterator[int]:
        """The tokens of a text up to its end, without special ones and ids that only fill the vocabulary."""
        for token in tokens:
            if token in ends:
                return
            if token < tokenizer.vocab_size and token not in tokenizer.special.values():
                yield token

    try:
        if args.samples == 1:
            print(shown, end="", flush=True)
            for piece in tokenizer.decode_stream(with_text(int(token) for (token,) in rows())):
                print(piece, end="", flush=True)
        else:
            for i, row in enumerate(np.stack(list(rows()), axis=1).tolist(), 1):
                print(f"[{i}] {shown}{tokenizer.decode(list(with_text(row)))}\n", flush=True)
    finally:  # after Ctrl-C too
        n = len(times) - 1
        print(f"\n\n{n} tokens", end="")
        if n > 1:
            rate, wait = (n - 1) / (times[-1] - times[1]), times[1] - times[0]
            print(
                f", {rate:.1f} a second; the first, with the prompt of {len(ids)}, took {wait:.2f} s", end=""
            )
        print()


if __name__ == "__main__":
    start(parse_args, main)
