"""The numbers of a Transformer like GPT-2 or GPT-3, on paper: parameters, operations, and bytes in training.

The letters are those of Narayanan et al. (2021, arXiv:2104.04473): l layers, hidden size h, a heads, sequence
length s, vocabulary V, batch b, and tensor parallelism t. Ψ is the number of parameters, as in the
paper on ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Transformer:
    """A GPT with learned positions, whose last projection has the weights of the token embedding."""

    layers: int
    hidden: int
    heads: int
    sequence: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Ψ: of a layer, 12 h² weights and 13 h biases and gains; the embeddings; the last layer norm.

        Eq.: Ψ = 12 l h² (1 + 13/(12 h) + (V + s)/(12 l h)) + 2 h, a norm  (Narayanan et al. 2021, eq. 2)
        Held by: tests/parallel/test_sizes.py::test_parameters
        """
        embeddings = (self.vocabulary + self.sequence) * self.hidden
        return self.layers * (12 * self.hidden**2 + 13 * self.hidden) + embeddings + 2 * self.hidden

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of a training step a token, as of `GPT.flops_per_token`.

        Eq.: 6 N + 12 l h s  (Chowdhery et al. 2022, arXiv:2204.02311, appendix B)
        Held by: tests/parallel/test_sizes.py::test_operations
        """
        multiplied = self.parameters - self.sequence * self.hidden
        return 6 * multiplied + 12 * self.layers * self.hidden * self.sequence

    def activations(self, batch: int, tensor: int = 1, keep: str = "all") -> float:
        """Bytes that all layers keep for the backward pass, in 16 bits, in each of t = `tensor` processes
        that divide every layer (norms and dropout, too). `keep` is "all"; "no attention", whose s × s
        weights are computed again; or the "inputs" of layers, from which all is computed again.

        Eq.: s b h l (34 + 5 a s/h) / t; without attention 34 s b h l / t; inputs 2 s b h l
            (Korthikanti et al. 2022, arXiv:2205.05198, section 4)
        Held by: tests/parallel/test_sizes.py::test_activations
        """
        each = self.sequence * batch * self.hidden * self.layers
        if keep == "all":
            return each * (34 + 5 * self.heads * self.sequence / self.hidden) / tensor
        if keep == "no attention":
            return each * 34 / tensor
        if keep == "inputs":
            return each * 2
        raise ValueError(f'keep is "all", "no attention" or "inputs", got {keep!r}')


@dataclass(frozen=True)
class Precision:
    """Bytes a parameter: of the weight, of its gradient, and of what the optimizer keeps."""

    weight: int
    gradient: int
    optimizer: int


SINGLE = Precision(4, 4, 8)
"""Adam in float32: two averages a parameter."""
MIXED = Precision(2, 2, 12)
"""Adam with weights and gradients of 16 bits: a copy of the weight and two averages in float32."""


def model_states(parameters: float, P: int = 1, stage: int = 0, precision: Precision = MIXED) -> float:
    """Bytes of weights, gradients and optimizer in each of P processes. ZeRO divides among them the state of
    the optimizer (`stage` 1), the gradients as well (2), and the weights as well (3); 0 divides nothing.

    Eq.: (w + g + o) Ψ; (w + g) Ψ + o Ψ/P; w Ψ + (g + o) Ψ/P; (w + g + o) Ψ/P
        (Rajbhandari et al. 2020, figure 1)
    Held by: tests/parallel/test_sizes.py::test_zero
    """
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"the stage of ZeRO is 0, 1, 2 or 3, got {stage}")
    parts = (precision.optimizer, precision.gradient, precision.weight)
    return sum(parameters * size / (P if i < stage else 1) for i, size in enumerate(parts))


def training_seconds(parameters: float, tokens: float, processes: int, flops: float) -> float:
    """The seconds of a whole training at `flops` operations a second in each process, when the activations
    are computed twice.

    Eq.: 8 T P / (n X)  (Narayanan et al. 2021, eq. 4)
    Held by: tests/parallel/test_sizes.py::test_the_days_of_gpt3
    """
    return 8 * tokens * parameters / (processes * flops)


GPT2 = Transformer(12, 768, 12, 1024, 50257)
"""The smallest GPT-2, of 124 million parameters (Radford et al. 2019)."""
GPT3 = Transformer(96, 12288, 96, 2048, 50257)
"""GPT-3, of 175 billion (Brown et al. 2020, arXiv:2005.14165, table 2.1)."""
