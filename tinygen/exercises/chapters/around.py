"""Exercises around the models: several processes, files, adapters' numbers, the reading order of the book."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinygen.book.chapters import Chapter as BookChapter
from tinygen.exercises.chapters.inputs import numbers
from tinygen.exercises.exercise import Chapter, Exercise, Mistake, Values
from tinygen.tensor import Tensor

OWN_ROWS = Exercise(
    "own_rows",
    "tinygen.parallel.gradients:own_rows",
    "deal out a batch to processes",
    hints=(
        "With 11 rows and 4 processes, three get one row more. If these are the first three, where does each "
        "process begin?",
        "least, more = divmod(n, size). Before process `rank` there are `rank` processes with `least` rows, "
        "and min(rank, more) of them have one more.",
        "start = rank * least + min(rank, more); slice(start, start + least + (rank < more)).",
    ),
    given=dict,
    checks=(
        Values("[own_rows(12, rank, 4) for rank in range(4)]"),
        Values("[own_rows(11, rank, 4) for rank in range(4)]"),
    ),
    mistakes=(
        Mistake(
            " + min(rank, more)",
            "",
            "slice(2, 5, None), expected slice(3, 6, None)",
            "the rows that processes before this one have more are not counted",
        ),
        Mistake(
            "start + least + (rank < more)",
            "start + least",
            "slice(0, 2, None), expected slice(0, 3, None)",
            "the rest of the division belongs to nobody",
        ),
        Mistake(
            "(rank < more)", "(rank >= size - more)", "", "the last processes have more instead of the first"
        ),
    ),
)

OWNERS = Exercise(
    "owners",
    "tinygen.parallel.zero:owners",
    "ZeRO: who keeps the optimizer's state of which parameter",
    hints=(
        "Boxes of different sizes, some shelves: in which order do you put them up so that the shelves are "
        "equally full?",
        "The largest first, each to the process that has the fewest numbers so far.",
        "for p in sorted(params, key=lambda p: -p.size): found[p] = load.index(min(load)); load[found[p]] += "
        "p.size.",
    ),
    given=lambda: {"params": [Tensor(np.zeros(n)) for n in (2, 3, 7, 1, 5, 4, 6)]},
    checks=(
        Values("found = owners(params, 2); [found[p] for p in params]"),
        Values("found = owners(params, 3); [found[p] for p in params]"),
    ),
    mistakes=(
        Mistake(
            "sorted(params, key=lambda p: -p.size)",
            "params",
            "",
            "they come as they are, not the largest first",
        ),
        Mistake("+= p.size", "+= 1", "", "parameters are counted instead of their numbers"),
        Mistake(
            "load.index(min(load))", "load.index(max(load))", "", "the fullest process gets the next one"
        ),
    ),
)

BUCKETS = Exercise(
    "buckets",
    "tinygen.parallel.gradients:in_buckets",
    "gradients that travel together",
    hints=(
        "A message has a fixed cost: so several gradients share one. Which ones are complete first?",
        "Backward reaches the last parameters first. A bucket is closed when it has `size` bytes, and a "
        "message has one dtype.",
        "For p in reversed(those that require grad): begin a new group if bytes_there >= size or the dtype "
        "is another one than groups[-1][0].dtype; append p; bytes_there += p.size * p.dtype.itemsize.",
    ),
    given=lambda: {
        "params": [
            Tensor(np.zeros(n, dtype), requires_grad=needed)
            for n, dtype, needed in (
                (2, np.float32, True),
                (3, np.float32, True),
                (1, np.float64, True),
                (1, np.float64, False),
                (4, np.float64, True),
                (5, np.float64, True),
            )
        ]
    },
    checks=(
        Values("[[p.size for p in b.params] for b in in_buckets(params, 10)]"),
        Values("[[p.size for p in b.params] for b in in_buckets(params, 60)]"),
    ),
    mistakes=(
        Mistake(
            "reversed([p for p in params if p.requires_grad])",
            "[p for p in params if p.requires_grad]",
            "[[2, 3], [1, 4], [5]], expected [[5], [4]",
            "the first parameters come first: backward completes them last",
        ),
        Mistake(
            " or p.dtype != groups[-1][0].dtype",
            "",
            "[1, 3], [2]], expected",
            "numbers of two dtypes are in one message",
        ),
        Mistake(
            "p.size * p.dtype.itemsize",
            "p.size",
            "[[5, 4, 1], [3, 2]], expected",
            "the numbers of a bucket are counted instead of its bytes",
        ),
    ),
)

SAFETENSORS = Exercise(
    "safetensors",
    "tinygen.storage.safetensors:layout",
    "the header of a file of arrays",
    hints=(
        "A reader must find each array without reading the others: what must it know of each?",
        "Eight bytes with the length of the header, the header, the arrays one after the other. The header "
        "is JSON: dtype, shape, data_offsets from the end of the header. Larger items first, so that all "
        "are aligned.",
        "header[name] = {'dtype': NAMES[...], 'shape': ..., 'data_offsets': [begin, end]}; text = "
        "json.dumps(..., separators=(',', ':')).encode(), spaces up to a multiple of 8; "
        "len(text).to_bytes(8, 'little') + text.",
    ),
    given=lambda: {
        "path": Path("x.safetensors"),
        "arrays": {"a": np.zeros(3, np.float16), "b": numbers(2, 2), "c": np.zeros(2, np.float16)},
    },
    checks=(
        Values("header, arrays = layout(path, arrays, {'of': 'me'}); [header, list(arrays)]"),
        Values("header, arrays = layout(path, arrays); len(header) % 8"),
    ),
    mistakes=(
        Mistake(
            "sorted(ordered.items(), key=lambda pair: -pair[1].itemsize)",
            "ordered.items()",
            "",
            "the arrays are not sorted by the size of their items",
        ),
        Mistake('"little"', '"big"', "", "the length has its bytes in the wrong order"),
        Mistake(
            "begin, end = end, end + array.nbytes",
            "begin, end = end, end + array.size",
            "",
            "the offsets count numbers instead of bytes",
        ),
    ),
)

FLATTEN = Exercise(
    "flatten",
    "tinygen.storage.state:flatten",
    "a tree of states as JSON and arrays",
    hints=(
        "JSON has no arrays of numbers that are exact and short. Where else could they be, and what stands "
        "in their place?",
        "An array goes into `arrays` by its path, as `model/0/weight`, and {ARRAY: path} takes its place. "
        "Dicts, lists and tuples are walked through.",
        "return {key: flatten(x, f'{path}/{key}' if path else key, arrays) for key, x in value.items()}, "
        "and the same with numbers for lists; NumPy's numbers by .item().",
    ),
    given=lambda: {
        "state": {"step": np.int64(3), "model": [{"w": numbers(2)}, (numbers(1), None)], "lr": 0.1}
    },
    checks=(
        Values("arrays = {}; [flatten(state, '', arrays), list(arrays)]"),
        Values("arrays = {}; [flatten(state, '', arrays), arrays]"),
        Values("repr(flatten(state['step'], '', {}))"),
    ),
    mistakes=(
        Mistake(
            'f"{path}/{i}" if path else str(i)',
            "path",
            "'model/w', expected 'model/0/w'",
            "the entries of a list share one path",
        ),
        Mistake(
            'f"{path}/{key}" if path else key',
            "key",
            "'w', expected 'model/0/w'",
            "a path has only its last name: equal names of two parts meet",
        ),
        Mistake(
            "return value.item()",
            "return value",
            "'np.int64(3)', expected '3'",
            "NumPy's numbers stay, which JSON does not know",
        ),
    ),
)

SHORTEST = Exercise(
    "shortest_number",
    "tinygen.models.huggingface.peft:number_of",
    "0.1 from a float32, not 0.10000000149",
    hints=(
        "float(np.float32(0.1)) is exact, and that is the trouble: the nearest float32 is not 0.1. Which "
        "text does NumPy print for it?",
        "The shortest decimal number that rounds to it in its own precision, str(scalar).",
        "value = float(str(scalar)), and int(value) if it is whole.",
    ),
    given=lambda: {"tenth": np.float32(0.1), "sixteen": np.float32(16.0), "third": np.float16(1 / 3)},
    checks=(
        Values("repr(number_of(tenth))"),
        Values("repr(number_of(sixteen))"),
        Values("repr(number_of(third))"),
    ),
    mistakes=(
        Mistake(
            "float(str(scalar))", "float(scalar)", "0.10000000149", "the float32 is widened digit by digit"
        ),
        Mistake("value.is_integer()", "False", "'16.0', expected '16'", "whole numbers stay floats"),
        Mistake(
            "float(str(scalar))",
            "round(float(scalar), 2)",
            "'0.33', expected '0.3333'",
            "it is rounded to a fixed number of places",
        ),
    ),
)

READING_ORDER = Exercise(
    "reading_order",
    "tinygen.book.order:places",
    "the chapter of each file of this book",
    hints=(
        "A file that no chapter names belongs to the last chapter. But what if an earlier one uses it?",
        "Then it comes there. And what it uses itself may have to move, too: repeat until nothing moves. "
        "Files that are named stay.",
        "for other in set(used) - named: if found[path] < found[other]: found[other] = found[path], and "
        "go through all again as long as one has moved.",
    ),
    given=lambda: {
        "chapters": tuple(BookChapter("", "", "", files=(pattern,)) for pattern in ("a.py", "b.py", "*")),
        "uses": {"d.py": [], "c.py": ["d.py"], "b.py": ["c.py"], "a.py": ["b.py"], "e.py": []},
    },
    checks=(
        Values("[places(uses, chapters)[f] for f in 'abcde' for f in [f + '.py']]"),
        Values("places({**uses, 'a.py': ['c.py']}, chapters)['d.py']"),
    ),
    mistakes=(
        Mistake(
            "found[other], moved = found[path], True",
            "found[other] = found[path]",
            "value 4 of 5: 2, expected 1",
            "what a moved file uses does not follow it",
        ),
        Mistake(
            "found[path] < found[other]",
            "found[path] > found[other]",
            "value 3 of 5: 2, expected 1",
            "files move to a later chapter instead of an earlier one",
        ),
        Mistake(
            "set(used) - named",
            "set(used)",
            "value 2 of 5: 0, expected 1",
            "files that a chapter names are moved, too",
        ),
    ),
)

CHAPTER = Chapter(
    "Around the models",
    (OWN_ROWS, OWNERS, BUCKETS, SAFETENSORS, FLATTEN, SHORTEST, READING_ORDER),
)
