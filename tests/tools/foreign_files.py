"""Safetensors files as a stranger might make them: by hand, and (Hypothesis) by damaging good ones."""

import copy
import json

import numpy as np
from hypothesis import strategies as st


def packed(header, data=b""):
    """A file with this header (an object, or bytes as they are) and these bytes after it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def described(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


ONE = {"a": described("F32", [2], 0, 8)}
SOME = {
    "__metadata__": {"format": "pt"},
    "w": described("F64", [2, 3], 0, 48),
    "none": described("I32", [0, 3], 48, 48),
    "half": described("BF16", [4], 48, 56),
    "h16": described("F16", [2, 1], 56, 60),
    "yes": described("BOOL", [3], 60, 63),
    "number": described("U8", [], 63, 64),
}
HEADERS = [(ONE, bytes(range(8))), (SOME, np.arange(60, dtype=np.uint8).tobytes() + b"\0\1\1\7"), ({}, b"")]
BASES = [packed(header, data) for header, data in HEADERS]

# -- damage to the header, as JSON -----------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-2, 70),
    st.sampled_from([2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["a", "w", "none", "half", "yes", "number", "__metadata__", "", "\ud800", "../x"])
DTYPES = st.sampled_from(
    ["F64", "F32", "F16", "BF16", "I64", "I8", "U8", "U16", "BOOL", "F8_E4M3", "f32", ""]
)
SHAPES = st.lists(NUMBERS, max_size=4) | st.lists(st.just(1), min_size=60, max_size=70)
OFFSETS = st.tuples(NUMBERS, NUMBERS).map(sorted) | st.lists(NUMBERS, max_size=3)
FIELDS = st.one_of(
    st.tuples(st.just("dtype"), DTYPES),
    st.tuples(st.just("shape"), SHAPES),
    st.tuples(st.just("data_offsets"), OFFSETS),
    st.tuples(st.sampled_from(["dtype", "shape", "data_offsets", "more"]), JSON),
)
JSON_FILE = st.builds(
    lambda header, data: packed(header, data), st.dictionaries(NAMES, JSON, max_size=2), st.binary(max_size=8)
)


@st.composite
def damaged_header(draw, header):
    header = copy.deepcopy(header)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(header)) if header else NAMES)
        kind = draw(st.sampled_from(["field", "field", "field", "drop", "add", "replace", "rename"]))
        if kind == "field" and isinstance(header.get(name), dict):
            field, value = draw(FIELDS)
            header[name][field] = value
        elif kind == "drop":
            header.pop(name, None)
        elif kind == "add":
            header[draw(NAMES)] = described(draw(DTYPES), draw(SHAPES), *draw(st.tuples(NUMBERS, NUMBERS)))
        elif kind == "replace":
            header[name] = draw(JSON)
        elif kind == "rename" and name in header:
            header[draw(NAMES)] = header.pop(name)
    return header


# -- damage to the bytes ---------------------------------------------------------------------------


@st.composite
def damaged_bytes(draw, content):
    content = bytearray(content)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["flip", "set", "cut", "insert", "repeat", "length"]))
        if kind == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and at < len(content):
            content[at] = draw(st.sampled_from(b'\0\xff{}[]",: 09-eE.tfn\\'))
        elif kind == "cut":
            del content[at : at + draw(st.integers(1, 1 + len(content)))]
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "repeat":
            content[at:at] = content[at : at + draw(st.integers(1, 60))]
        elif kind == "length":
            content[:8] = draw(st.one_of(st.integers(0, 400), st.integers(0, 2**64 - 1))).to_bytes(
                8, "little"
            )
    return bytes(content)


@st.composite
def mutated(draw):
    """A sound file with some damage, to its header, to its bytes, to both or to neither."""
    header, data = draw(st.sampled_from(HEADERS))
    return draw(damaged_bytes(packed(draw(damaged_header(header)), data)))
