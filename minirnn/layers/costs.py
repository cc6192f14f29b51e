"""What `Module.summary` says of a forward pass: the multiplications of its products, and what it keeps for backward.

Derived from the sizes of the modules and of the kernels' buffers, without a pass. tests/layers/test_costs.py holds it
against the products that a pass makes, and against the memory that it takes.
"""

from collections.abc import Iterator
from functools import singledispatch
from math import prod
from typing import Any, NamedTuple

import numpy as np

from minirnn import counting
from minirnn.arguments import as_size
from minirnn.kernels import unroll
from minirnn.layers import ids
from minirnn.layers.composites import Bidirectional, Stacked
from minirnn.layers.containers import Sequential
from minirnn.layers.layer import Layer
from minirnn.layers.module import Module, Parameter
from minirnn.layers.norm import LayerNorm
from minirnn.layers.plain import Dropout, Embedding, Linear, OneHot
from minirnn.layers.sequence_model import SequenceModel
from minirnn.layers.settings import segment_length


class Cost(NamedTuple):
    """A share of what a forward pass costs."""

    of: "Parameter | str"  # what it stands beside in the table: a Parameter, or a module without any, by its name
    multiplications: int
    kept: int | None  # bytes; None where nobody can tell beforehand


class Place(NamedTuple):
    """Where in a pass a module is called: on T steps of N rows of so many features."""

    T: int
    N: int
    name: str  # dotted
    width: int | None = None  # the features; None if that is not known
    read: bool = True  # whether somebody reads the outputs of every step

    def within(self, name: str, width: int | None = None) -> "Place":
        """Go to a module that is owned."""
        return self._replace(name=f"{self.name}.{name}".lstrip("."), width=width)

    def numbers(self, width: int) -> int:
        """Count the entries of (T, N, width)."""
        return self.T * self.N * width


def summary(module: Module, T: int | None, N: int | None) -> str:
    """Return what `Module.summary` prints."""
    names = dict(module.named_parameters())
    terms = [term for term in module.counted() if term.name in names]
    notes = module.counting_notes()
    told = [*notes, *counting.NOTES] if notes else []
    if T is None and N is None:
        return "\n".join([counting.table(terms), *told])
    if T is None or N is None:
        lacks, given = ("T", "N") if T is None else ("N", "T")
        raise TypeError(f"summary: T and N must come together, got {given} alone: how large is {lacks}?")
    T, N = as_size(T, "summary: T"), as_size(N, "summary: N")
    names_of = {id(parameter): name for name, parameter in names.items()}
    shares = [
        (cost.of if isinstance(cost.of, str) else names_of[id(cost.of)], cost)
        for cost in costs(module, Place(T, N, ""))
        if isinstance(cost.of, str) or id(cost.of) in names_of
    ]
    own = {name: [cost for of, cost in shares if of == name] for name in dict.fromkeys([*names, *dict(shares)])}
    terms += [counting.Term(name, (), (), "", "", 0) for name in own if name not in names]
    columns: dict[str, list[int | None]] = {
        "multiplications": [sum(cost.multiplications for cost in own[term.name]) for term in terms],
        "bytes kept": [_sum([cost.kept for cost in own[term.name]]) for term in terms],
    }
    said = (
        f"Multiplications are those of the products of a forward pass, T = {T}, N = {N}; the way back has twice as",
        "many, or less: the product for the gradient of x is not made where nobody wants it.",
        "Bytes are those that stand between forward and backward, outputs included, x not, beside the first parameter",
        "of a module; ? where they are not known beforehand, as of what is unrolled op by op.",
    )
    return "\n".join([counting.table(terms, columns), *told, *said])


def _sum(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


# --- module by module -------------------------------------------------------------------------------------------------


@singledispatch
def costs(module: Module, place: Place) -> Iterator[Cost]:
    """Yield the costs of a pass: of a Module of one's own, those of the modules it owns, each called once on (T, N)."""
    for name, child in module.children():
        yield from costs(child, place.within(name))


@costs.register
def _(module: Linear, place: Place) -> Iterator[Cost]:
    size = place.numbers(module.out_features)
    yield Cost(module.weight, module.in_features * size, module.dtype.itemsize * size)


@costs.register
def _(module: Embedding, place: Place) -> Iterator[Cost]:
    vectors = module.weight.dtype.itemsize * place.numbers(module.embedding_dim)
    of_ids = np.dtype(np.int64).itemsize + (module.padding_idx is not None)  # and whether each is another than that
    yield Cost(module.weight, 0, vectors + place.numbers(of_ids))


@costs.register
def _(module: LayerNorm, place: Place) -> Iterator[Cost]:
    arrays = 1 if module.weight is None else 2
    of = module.weight if module.weight is not None else place.name
    yield Cost(of, 0, arrays * module.dtype.itemsize * place.numbers(module.features))


@costs.register
def _(module: Dropout, place: Place) -> Iterator[Cost]:
    if module.training:  # the mask, and what it makes of x; float32 or not, nobody has said
        yield Cost(place.name, 0, None if place.width is None else 2 * 4 * place.numbers(place.width))


@costs.register
def _(module: Sequential, place: Place) -> Iterator[Cost]:
    width = place.width
    for i, (name, child) in enumerate(module.children()):
        for cost in costs(child, place.within(name, width)):
            lets_go = i > 0 and isinstance(child, Dropout)  # of what it gets, which nobody else needs
            yield cost._replace(kept=cost.kept // 2) if lets_go and cost.kept else cost
        width = getattr(child, "out_features", width)


@costs.register
def _(module: SequenceModel, place: Place) -> Iterator[Cost]:
    every = module.readout == "all"
    recurrent = place.within("recurrent")._replace(read=every)
    if ids.less_work(module.recurrent, module.embedding, place.numbers(1)):
        yield from _of_rows(module.recurrent, module.embedding, recurrent)
    else:
        if module.embedding is not None:
            yield from costs(module.embedding, place.within("embedding"))
        yield from costs(module.recurrent, recurrent)
    head = place.within("head", module.recurrent.output_size)
    yield from costs(module.head, head if every else head._replace(T=1))


def _of_rows(layer: Any, embedding: Any, place: Place) -> Iterator[Cost]:
    """Yield the costs of a layer that takes rows, of E W_xh or of W_xh, and makes no vectors."""
    V, width = embedding.num_embeddings, layer.W_xh.shape[1]
    if isinstance(embedding, Embedding):
        yield Cost(embedding.weight, V * layer.input_size * width, layer.dtype.itemsize * V * width)
    for cost in costs(layer, place):
        of_x = place.numbers(ids.read_of_each(layer, V) * width)
        yield cost._replace(multiplications=of_x) if cost.of is layer.W_xh else cost


@costs.register
def _(module: OneHot, place: Place) -> Iterator[Cost]:
    yield Cost(place.name, 0, module.dtype.itemsize * place.numbers(module.embedding_dim))


@costs.register
def _(module: Stacked, place: Place) -> Iterator[Cost]:
    for i, layer in enumerate(module.layers):
        last = i + 1 == len(module.layers)
        yield from costs(layer, place.within(str(i))._replace(read=place.read or not last))
        if not last and module.dropout is not None:
            for cost in costs(module.dropout, place.within("dropout", layer.output_size)):
                yield cost._replace(kept=(cost.kept or 0) // 4 * module.dtype.itemsize)


@costs.register
def _(module: Bidirectional, place: Place) -> Iterator[Cost]:
    for name in ("forward_layer", "backward_layer"):
        yield from costs(getattr(module, name), place.within(name))
    steps = place if place.read else place._replace(T=1)
    yield Cost(place.name or type(module).__name__, 0, module.dtype.itemsize * steps.numbers(module.output_size))


@costs.register
def _(module: Layer, place: Place) -> Iterator[Cost]:
    for name in ("W_xh", "W_hh", "W_hr"):
        weight = vars(module).get(name)
        if weight is not None:
            yield Cost(weight, place.numbers(prod(weight.shape)), kept(module, place) if name == "W_xh" else 0)


def kept(layer: Layer[Any], place: Place) -> int | None:
    """Return the bytes that a layer keeps: every state, or those at checkpoints, and what its kernel saves of steps.

    None where the layer is unrolled op by op, and for a cell of one's own, which saves what it likes.
    """
    if layer.backend == "graph" or layer.by_op or layer.core.kernel is None:
        return None
    T, N, item = place.T, place.N, layer.dtype.itemsize
    of_state = N * sum(layer.state_sizes)
    ends = 2 * of_state  # the states before the first step and after the last
    every = (T + 1) * N * layer.output_size
    masked = layer.training and layer.recurrent_dropout
    segment = segment_length(layer.remat, T)
    if segment is not None:
        return item * (ends + (every if place.read else 0) + -(-T // segment) * of_state)
    if unroll.falls(layer._kernel, bool(masked or layer.message_clip)):
        return item * (ends + every)
    fed = T * N * layer.output_size if masked else 0
    saves: int = layer._kernel.saves
    return item * (ends + every + fed + T * N * layer.hidden_size * saves)
