"""Random programs, for `test_random_graphs.py`.

A program is Python source. It is written line by line while the naive engine (`naive.py`) runs it. The naive
engine gives the shapes that the next line has to fit, and at the end the expected values. Random choices come
from a `random.Random`: a seeded one, or Hypothesis's.
"""

import contextlib

import naive
import numpy as np

# -- what a line may say ---------------------------------------------------------------------------

UNARY = [
    *("np.tanh({x})", "np.sin({x})", "np.cos({x})", "np.exp({x})", "np.square({x})", "{x}**3", "-{x}"),
    *("{x} * 0.5 + 1.0", "2.0 / (np.square({x}) + 0.5)", "np.sqrt(np.square({x}) + 0.5)", "{x} * {x} + {x}"),
    *("np.log(np.square({x}) + 0.5)", "ops.sigmoid({x})", "ops.gelu({x})", "ops.erf({x})"),
]
BINARY = [
    *("{x} + {y}", "{x} - {y}", "{x} * {y}", "{x} / (np.square({y}) + 0.5)", "{y} * np.tanh({x}) + {x}"),
    *("{x} * {y} - {x}.detach()", "{x}.detach() * {y}"),
]
ROWS = ["ops.softmax({x})", "ops.layer_norm({x}, {y}, {y})", "ops.attention({x}, {x}, {x})"]
SHAPES = [
    *("np.transpose({x}, {order})", "np.swapaxes({x}, {i}, {j})", "np.moveaxis({x}, {i}, {j})"),
    *("np.flip({x}, {i})", "np.roll({x}, 1, {i})", "np.cumsum({x}, {i})", "np.expand_dims({x}, {i})"),
    *("np.reshape({x}, {size})", "np.reshape({x}, {shape}[::-1])", "np.broadcast_to({x}, (2, *{shape}))"),
    *("np.repeat({x}, 2, {i})", "np.tile({x}, (2, 1))", "np.pad({x}, {widths})", "np.tril({x}[None])"),
]
CONTEXTS = ["no_grad()", 'kernels("off")', 'kernels("numpy")', 'kernels("auto")', "anomaly()"]
LARGEST = 48  # entries of a tensor
ORDERS = 2  # gradients within a program; the one of its result comes on top


def numbers(seed, shape, dtype=np.float64):
    """An array in [-1.5, 1.5), in one of four memory layouts."""
    x = np.random.default_rng(seed).uniform(-1.5, 1.5, (*shape, 1)).astype(dtype)
    layouts = [
        lambda: x,
        lambda: np.asfortranarray(x),
        lambda: np.flip(np.flip(x).copy()),
        lambda: np.concatenate([x, x], axis=-1),
    ]
    return layouts[seed % 4]()[..., 0]


def world(dtype, tensor, engine):
    """The names that a program may use, and the list of its leaves, to which it appends."""
    leaves = []

    def constant(seed, shape, **grad):
        kind = np.float32 if dtype == "float32" or (dtype == "mixed" and seed % 3 == 0) else np.float64
        return tensor(numbers(seed, shape, kind), **grad)

    def leaf(seed, shape):
        leaves.append(constant(seed, shape, requires_grad=True))
        return leaves[-1]

    names = {name: getattr(engine, name) for name in ("ops", "no_grad", "checkpoint", "kernels", "anomaly")}
    names |= {name: getattr(engine, name) for name in ("hvp", "jvp", "pulled", "gradients")}
    return names | {"np": np, "numbers": numbers, "leaf": leaf, "constant": constant}, leaves


class Unfit(Exception):
    """No tensor fits the line that was chosen."""


def fits(function, *shapes):
    try:
        function(*[np.empty(s) for s in shapes])
    except ValueError:
        return False
    return True


class Author:
    """Writes a program of about `length` lines, which ends with two scalars, `loss` and `other`.

    `names` maps its names to the values of the naive engine. `leaves` has its leaves, `pool` the names of the
    tensors that exist at the end, and `inner` some of them to differentiate by."""

    def __init__(self, chance, length):
        self.chance = chance
        self.dtype = chance.choice(["float64", "float64", "float64", "float32", "mixed"])
        self.names, self.leaves = world(self.dtype, naive.Value, naive)
        self.pool, self.lines = [], []
        self.count = self.orders = self.depth = 0
        self.leaf()
        while len(self.lines) < length:
            self.line()
        known = self.depend()
        self.inner = chance.sample(known, min(len(known), 3))
        known = [x for x in known if self.names[x].size] or known
        known = sorted(known, key=lambda x: len(naive.ancestors(self.names[x])))[-8:]  # the deepest
        for name, most in (("loss", 5), ("other", 3)):
            picked = chance.sample(known, min(len(known), most))
            terms = [f"np.sum({x} * {self.fresh(self.names[x].shape)})" for x in picked]
            self.run(f"{name} = {' + '.join(terms or ['np.sum(constant(1, (2, 3)))'])}")

    def line(self):
        kinds = [
            self.unary,
            self.binary,
            self.binary,
            self.rows,
            self.reduction,
            self.reshaped,
            self.reshaped,
        ]
        kinds += [
            self.indexed,
            self.indexed,
            self.product,
            self.product,
            self.joined,
            self.split,
            self.kinked,
        ]
        kinds += [self.gradients] if self.orders < ORDERS else []
        kinds += [self.segment, self.segment] if self.depth < 2 else []
        kinds += [self.leaf, self.drop] if self.depth == 0 else []
        with contextlib.suppress(Unfit):
            self.chance.choice(kinds)()

    # writing it down

    def run(self, line):
        exec(line, self.names)
        self.lines += line.split("\n")

    def write(self, expression, context=None):
        """`name = expression`, unless that is too large."""
        with eval(context, self.names) if context else contextlib.nullcontext():
            value = eval(expression, self.names)
        if value.size > LARGEST:
            raise Unfit
        name = self.new()
        line = f"{name} = {expression}  # {value.shape}"
        self.lines += [f"with {context}:", f"    {line}"] if context else [line]
        self.names[name] = value
        self.keep(name)

    def several(self, expression, n, kept=None):
        """`[name, ...] = expression` for its n values; some of them may be dropped at once."""
        names = [self.new() for _ in range(n)]
        self.run(f"[{', '.join(names)}] = {expression}")
        dropped = self.chance.sample(names, n - (kept or n))
        for name in names:
            self.run(f"del {name}") if name in dropped else self.keep(name)

    def keep(self, name):
        """Put a name into the pool; scale its tensor down if the entries are large."""
        size = np.abs(self.names[name].value).max(initial=0)
        if size > 3:
            self.run(f"{name} = {name} * {2 / size:.1g}")
        self.pool.append(name)

    def number(self):
        self.count += 1
        return self.count

    def new(self):
        return f"t{self.number()}"

    # choosing

    def any(self, condition=lambda x: True):
        """The name of a random tensor: one of all, of the latest, or of the tensors with a graph."""
        found = [name for name in self.pool if condition(self.names[name])]
        if not found:
            raise Unfit
        graphs = [name for name in found if self.names[name].requires_grad] or found
        return self.chance.choice(self.chance.choice([found, graphs, graphs[-3:]]))

    def partner(self, x, function=np.add):
        """The name of a tensor y for which `function(x, y)` is possible."""
        shape = self.names[x].shape
        return self.any(lambda y: fits(function, shape, y.shape))

    def like(self, shape):
        """An expression of this shape: a tensor, or constants."""
        found = [name for name in self.pool if self.names[name].shape == shape]
        return self.chance.choice([self.chance.choice(found or [self.fresh(shape)]), self.fresh(shape)])

    def fresh(self, shape):
        return f"numbers({self.number()}, {shape})"

    def depend(self):
        """The names of the tensors that depend on a leaf that requires grad."""
        leaves = set(self.leaves)
        return [name for name in self.pool if leaves & naive.ancestors(self.names[name])]

    def context(self):
        return self.chance.choice([None] * 10 + CONTEXTS)

    def axis(self, x):
        ndim = self.names[x].ndim
        return self.chance.randrange(-ndim, ndim)

    # the kinds of lines

    def leaf(self):
        sizes = [2, 3, 1, 2, 3, 1, 2, 3, 1, 0]
        shape = tuple(self.chance.choice(sizes) for _ in range(self.chance.choice([2, 3, 1, 0])))
        a, b = f"leaf({self.number()}, {shape})", f"leaf({self.number()}, {shape})"
        others = [a, f"{a} + {b}", f"constant({self.number()}, {shape})"] if self.pool else []
        self.write(self.chance.choice([a, *others]))

    def drop(self):
        for name in self.chance.sample(self.pool, len(self.pool) // 3):
            self.run(f"del {name}")
            self.pool.remove(name)

    def unary(self):
        self.write(self.chance.choice(UNARY).format(x=self.any()), self.context())

    def binary(self):
        x = self.any()
        self.write(self.chance.choice(BINARY).format(x=x, y=self.partner(x)), self.context())

    def product(self):
        x = self.any(lambda x: x.ndim)
        self.write(f"{x} @ {self.partner(x, np.matmul)}", self.context())

    def rows(self):
        x = self.any(lambda x: x.ndim > 1 and x.size)
        y = self.like(self.names[x].shape[-1:])
        self.write(self.chance.choice(ROWS).format(x=x, y=y), self.context())

    def kinked(self):
        """A line with a choice by size, such as a maximum, for values so different that rounding cannot
        matter."""
        x = self.any()
        y = self.partner(x)
        if np.abs(self.names[x].value - self.names[y].value).min(initial=1) > 0.01:
            self.write(self.chance.choice([f"np.maximum({x}, {y})", f"np.where({x} > {y}, {x}, {y})"]))
        elif np.abs(self.names[x].value).min(initial=1) > 0.01:
            self.write(f"np.abs({x})")

    def reduction(self):
        x = self.any()
        value = self.names[x].value
        functions = ["np.sum"]
        if value.size:
            functions += ["np.mean", "np.var", "ops.logsumexp"]
            if np.diff(np.sort(value, axis=None)).min(initial=1) > 0.01:  # there is one largest
                functions += ["np.max", "np.min"]
        axis = tuple(i for i in range(value.ndim) if self.chance.randrange(3))
        keepdims = self.chance.choice([True, False])
        self.write(f"{self.chance.choice(functions)}({x}, axis={axis}, keepdims={keepdims})")

    def reshaped(self):
        x = self.any(lambda x: x.ndim)
        shape = self.names[x].shape
        widths = [(self.chance.randrange(2), self.chance.randrange(2)) for _ in shape]
        order = self.chance.sample(range(len(shape)), len(shape))
        words = {"i": self.axis(x), "j": self.axis(x), "size": self.names[x].size, "shape": shape}
        self.write(self.chance.choice(SHAPES).format(x=x, widths=widths, order=order, **words))

    def indexed(self):
        x = self.any(lambda x: x.ndim)
        shape = self.names[x].shape
        length = self.chance.randint(1, 3)  # of all lists in the expression
        parts = []
        for n in shape:
            entries = [self.chance.randrange(-n, n) for _ in range(length)] if n else slice(None)
            slices = [":", "1:", "::-1", "::2", "-1:", "None, :"]
            parts.append(self.chance.choice(slices + [str(entries), str(entries), "-1"] * (n > 0)))
        if self.chance.choice([True, False]):
            parts = [*parts[: self.chance.randrange(len(parts))], "..."]
        mask = [self.chance.choice([True, False]) for _ in range(shape[0])]
        index = self.chance.choice([", ".join(parts), ", ".join(parts), f"np.array({mask}, bool)"])
        self.write(f"{x}[{index}]")

    def joined(self):
        x = self.any(lambda x: x.ndim)
        i = self.axis(x)
        if self.chance.choice([True, False]):
            self.write(f"np.stack([{x}, {self.partner(x, lambda *ab: np.stack(ab))}], {i})")
        else:
            y = self.partner(x, lambda *ab: np.concatenate(ab, i))
            self.write(f"np.concatenate([{x}, {y}, {x}], {i})")

    def split(self):
        x = self.any(lambda x: x.ndim)
        i = self.axis(x)
        n = self.names[x].shape[i]
        cuts = sorted(self.chance.randint(0, n) for _ in range(self.chance.randint(0, 2)))
        self.several(f"np.split({x}, {cuts}, {i})", len(cuts) + 1, self.chance.randint(1, len(cuts) + 1))

    def gradients(self):
        """Gradients of one tensor with respect to some others; they become part of the graph."""
        known = self.depend()
        if not known:
            raise Unfit
        self.orders += 1
        y = self.chance.choice(known)
        before = naive.ancestors(self.names[y])
        by = [x for x in known if self.names[x] in before] if self.chance.randrange(4) else known
        by = self.chance.sample(by, min(len(by), 2))
        self.several(f"gradients({y}, {self.like(self.names[y].shape)}, {', '.join(by)})", len(by))

    def segment(self):
        """A function of one or two tensors, called in one of several ways. Either it may use other tensors,
        too; or it uses only its arguments, which are off the tape, while tangents and cotangents may be on
        it."""
        names = [self.any() for _ in range(self.chance.randint(1, 2))]
        shapes = [self.names[x].shape for x in names]
        closed = self.chance.choice([False, False, True])
        args = [f"{x}.detach()" for x in names] if closed else names
        parameters = [self.new() for _ in names]
        self.names.update({p: self.names[x] for p, x in zip(parameters, names, strict=True)})
        outer, lines = self.pool, self.lines
        seen = [] if closed else outer
        self.pool, self.lines, self.depth = seen + parameters, [], self.depth + 1
        for _ in range(self.chance.randint(1, 6)):
            self.line()
        result = self.chance.choice(self.pool[len(seen) :][-3:])
        body = [*self.lines, f"return {result}"]
        self.pool, self.lines, self.depth = outer, lines, self.depth - 1
        f = self.new()
        self.run("\n    ".join([f"def {f}({', '.join(parameters)}):", *body]))
        ways = [self.checkpoint, self.checkpoint]
        ways += [self.pulled] if self.orders < ORDERS else []
        ways += [self.hvp, self.jvp] if self.orders < ORDERS - 1 else []
        self.chance.choice(ways)(f, args, shapes, self.names[result].shape)

    def checkpoint(self, f, args, shapes, shape):
        if self.chance.choice([True, True, False]):
            self.write(f"checkpoint({f}, {', '.join(args)})")
        else:
            self.several(f"checkpoint(lambda *xs: ({f}(*xs), np.sin(xs[0])), {', '.join(args)})", 2)

    def pulled(self, f, args, shapes, shape):
        self.orders += 1
        self.several(f"pulled({f}, {self.like(shape)}, {', '.join(args)})", 1 + len(args))

    def hvp(self, f, args, shapes, shape):
        self.orders += 2
        inside = f"lambda x: np.sum({f}({', '.join(['x', *args[1:]])}) * {self.fresh(shape)})"
        self.write(f"hvp({inside}, {args[0]}, {self.like(shapes[0])})")

    def jvp(self, f, args, shapes, shape):
        self.orders += 2
        tangents = ", ".join(self.like(shape) for shape in shapes)
        self.several(f"jvp({f}, [{', '.join(args)}], [{tangents}])", 2)
