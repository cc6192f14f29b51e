"""Reverse mode on one page: the gradient of whatever is made of simple steps, without deriving anything by hand.

A computation is a list of steps, the *tape*: step k makes a value v_k of values made before it; the last one is the
loss L. Write g_k for ∂L/∂v_k. Of L itself it is 1, and a step v_k = f(v_i, v_j) hands it on by the chain rule:

    g_i += g_k · ∂f/∂v_i        g_j += g_k · ∂f/∂v_j

An op's *rule* makes of g_k what goes to one input, and has to know nothing of L. A value that is used twice (*fan-out*)
gets a gradient from each use, and they add up: so g_k may be handed on only when all uses of v_k have handed theirs on.
They stand behind v_k on the tape, and whoever goes through it from its end meets them first.

Back-propagation through time is no more than this, on the tape that the unrolled loop has written: W_hh is used in
every step. minirnn/autograd does the same with more ops, and keeps only what their rules read.

>>> tape = Tape()
>>> x = tape.given(3.0)
>>> y = x * x + x
>>> [float(dx) for dx in tape.gradients(y, [x])]  # 2x + 1
[7.0]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minirnn.textbook.reading import Array


def summed_to(x: Array, g: Array) -> Array:
    """Undo broadcasting: where x was copied along an axis, the gradients of the copies add up."""
    g = g.sum(axis=tuple(range(g.ndim - x.ndim)))
    return np.asarray(g.sum(axis=tuple(i for i, n in enumerate(x.shape) if n == 1), keepdims=True))


# name -> (forward, a rule for each input), a rule being (g, y, *inputs) -> the gradient of that input; y is the output
OPS: dict[str, tuple[Callable[..., Any], Sequence[Callable[..., Array]]]] = {
    "add": (np.add, [lambda g, y, a, b: summed_to(a, g), lambda g, y, a, b: summed_to(b, g)]),
    "mul": (np.multiply, [lambda g, y, a, b: summed_to(a, g * b), lambda g, y, a, b: summed_to(b, g * a)]),
    "matmul": (np.matmul, [lambda g, y, a, b: g @ b.T, lambda g, y, a, b: a.T @ g]),
    "tanh": (np.tanh, [lambda g, y, a: g * (1.0 - y**2)]),
    "sum": (np.sum, [lambda g, y, a: np.full_like(a, g)]),
}


@dataclass(eq=False)
class Value:
    """What step ``number`` of a tape has made, by an op of inputs; or what was given, with neither."""

    tape: "Tape"
    number: int
    value: Array
    op: str = ""
    inputs: "tuple[Value, ...]" = ()

    def __add__(self, other: "Value") -> "Value":
        return self.tape.do("add", self, other)

    def __mul__(self, other: "Value") -> "Value":
        return self.tape.do("mul", self, other)

    def __matmul__(self, other: "Value") -> "Value":
        return self.tape.do("matmul", self, other)


class Tape:
    """The steps, in the order in which they were made."""

    def __init__(self) -> None:
        self.steps: list[Value] = []

    def given(self, value: ArrayLike) -> Value:
        """Write down what is not computed: an input, a parameter, a constant."""
        self.steps.append(Value(self, len(self.steps), np.asarray(value, float)))
        return self.steps[-1]

    def do(self, op: str, *inputs: Value) -> Value:
        """Make one step, and write it down."""
        y = OPS[op][0](*(x.value for x in inputs))
        self.steps.append(Value(self, len(self.steps), y, op, inputs))
        return self.steps[-1]

    def gradients(self, loss: Value, wanted: Sequence[Value]) -> list[Array]:
        """Return ∂loss/∂v, in the shape of v, for each v wanted; the loss is a single number."""
        g = [np.zeros_like(v.value) for v in self.steps]
        g[loss.number] = np.ones_like(loss.value)
        for v in reversed(self.steps):
            rules = OPS[v.op][1] if v.op else []
            for x, rule in zip(v.inputs, rules, strict=True):
                g[x.number] = g[x.number] + rule(g[v.number], v.value, *(i.value for i in v.inputs))
        return [g[v.number] for v in wanted]
