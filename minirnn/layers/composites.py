"""What recurrent layers are composed to: Bidirectional, two directions side by side; Stacked, one on top of the other.

Both are recurrent modules themselves, so that one can hold the other.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np

from minirnn.arguments import Rng, as_probability, describe, one_of
from minirnn.autograd.functions import concatenate
from minirnn.autograd.modes import WITHIN, anomaly
from minirnn.autograd.tensor import Tensor
from minirnn.layers.module import Module
from minirnn.layers.plain import Dropout
from minirnn.layers.recurrence import Backward, Forward, Recurrence, RecurrentOutput

if TYPE_CHECKING:
    from minirnn.drawing import blocks


Merge: TypeAlias = Literal["concat", "sum", "mean", "mul"]


class BidirectionalState(NamedTuple, Generic[Forward, Backward]):
    """The state of a `Bidirectional`, each part as its layer has it: a Tensor (N, H) or (h, c) of an LSTM."""

    forward: Forward
    backward: Backward


class Bidirectional(Recurrence[BidirectionalState[Forward, Backward]], Generic[Forward, Backward]):
    """Two layers over the same sequence, one from its beginning and one from its end (Schuster and Paliwal 1997):

        F_t = forward_layer(X_t, F_{t-1})        t = 0 … T−1
        B_t = backward_layer(X_t, B_{t+1})       t = T−1 … 0
        Y_t = [F_t B_t]

    Parameters
    ----------
    forward_layer : recurrent module
        One that goes forward: a layer, or a `Stacked` of such layers.
    backward_layer : recurrent module
        One made with ``reverse=True``. Its hidden size may be another; what it reads must be the same.
    merge : "concat", "sum", "mean" or "mul"
        What Y_t is made of F_t and B_t by: side by side, or entry by entry, which needs one hidden size.

    Notes
    -----
    ``output_size`` is H_F + H_B, or H where they are merged entry by entry, and ``reverse`` None: it has no one
    direction.

    Source: Schuster and Paliwal 1997, IEEE Trans. Signal Processing 45:2673. torch's ``bidirectional=True`` is the
    same and orders the outputs alike.

    The backward layer's final state is that after t = 0: handed on to the next part of a sequence it makes no sense,
    since there it belongs at the end.

    >>> import minirnn as mr
    >>> both = Bidirectional(mr.RecurrentLayer(3, 5, rng=0), mr.RecurrentLayer(3, 4, reverse=True, rng=1))
    >>> outputs, final_state = both(np.ones((7, 2, 3)))
    >>> outputs.shape, final_state.forward.shape, final_state.backward.shape
    ((7, 2, 9), (2, 5), (2, 4))
    """  # noqa: D400

    reverse: bool | None = None

    def __init__(
        self, forward_layer: Recurrence[Forward], backward_layer: Recurrence[Backward], *, merge: Merge = "concat"
    ) -> None:
        super().__init__()
        self.merge = one_of(merge, get_args(Merge), f"{self.name}: merge")
        layers: dict[str, Recurrence] = {"forward_layer": forward_layer, "backward_layer": backward_layer}
        _check(self.name, layers, ("input_size", "dtype", "batch_first"))
        for (argument, layer), reverse in zip(layers.items(), (False, True), strict=True):
            if layer.reverse is not reverse:
                raise ValueError(
                    f"{self.name}: {argument} ({layer.name}) must go {_WAYS[reverse]}, and it goes "
                    f"{_WAYS[layer.reverse]}: make it {'of layers ' * any(layer.children())}with reverse={reverse}"
                )
        self.input_size = forward_layer.input_size
        sizes = forward_layer.output_size, backward_layer.output_size
        if merge != "concat" and sizes[0] != sizes[1]:
            raise ValueError(
                f"{self.name}: merge={merge!r} works entry by entry, so both layers must have one hidden size, got "
                f'{sizes[0]} and {sizes[1]}: make them alike, or try merge="concat"'
            )
        self.output_size = sum(sizes) if merge == "concat" else sizes[0]
        self.dtype, self.batch_first = forward_layer.dtype, forward_layer.batch_first
        self.forward_layer, self.backward_layer = forward_layer, backward_layer

    def forward(
        self, x: Any, initial_state: Any = None, lengths: Any = None, *, reset: Any = None
    ) -> RecurrentOutput[BidirectionalState[Forward, Backward]]:
        """Run both layers over a mini-batch of sequences.

        The arguments are those of `RecurrentLayer.forward`, ``initial_state`` a pair: forward's before t = 0,
        backward's after the last step, which is that of each row where ``lengths`` are given. The outputs are
        (T, N, H_F + H_B).
        """
        of_forward, of_backward = self._states(initial_state, "initial_state")
        with _draws_only_if_done(self):
            with _noted(self, "forward_layer", self.forward_layer):
                forward = self.forward_layer(x, of_forward, lengths, reset=reset)
            with _noted(self, "backward_layer", self.backward_layer):
                backward = self.backward_layer(x, of_backward, lengths, reset=reset)
        outputs = self._merged(forward.outputs, backward.outputs)
        return RecurrentOutput(outputs, BidirectionalState(forward.final_state, backward.final_state))

    def step(self, x_t: Any, state: Any = None) -> Any:
        """Refuse: there is no single step."""
        raise TypeError(
            f"{self.name}: there is no step, because backward_layer starts at the end of the sequence and needs the "
            "whole of it: call the layer on the sequence, or use forward_layer.step"
        )

    def last_output(self, final_state: Any) -> Tensor:
        """Return [F_{T−1} B_0], (N, H_F + H_B): what each layer returned at the step it processed last."""
        forward, backward = self._states(final_state, "final_state", optional=False)
        return self._merged(self.forward_layer.last_output(forward), self.backward_layer.last_output(backward))

    def _merged(self, forward: Tensor, backward: Tensor) -> Tensor:
        if self.merge == "concat":
            return concatenate([forward, backward], axis=-1)
        made = forward * backward if self.merge == "mul" else forward + backward
        return 0.5 * made if self.merge == "mean" else made

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        return "" if self.merge == "concat" else f"merge={self.merge!r}"

    def _states(self, states: Any, argument: str, optional: bool = True) -> Sequence[Any]:
        return _entries(states, 2, f"{self.name}: {argument}", "a tuple (forward, backward)", optional)

    def _block(self) -> "blocks.Block":
        from minirnn.drawing import blocks

        return blocks.Both(self.forward_layer._block(), self.backward_layer._block(), self.output_size)


class Stacked(Recurrence[tuple[Any, ...]]):
    """Recurrent layers one on top of the other, with dropout between them if wanted:

        Y⁰ = X,   Yˡ = layerˡ(d(Yˡ⁻¹)),   d(y) = y ⊙ m / (1 − p),   m ~ Bernoulli(1 − p)

    Parameters
    ----------
    layers : list or tuple of recurrent modules
        From the bottom up; each reads what the one below returns. A `Bidirectional` or a `Stacked` may be among them.
    dropout : float
        p, the probability of dropping an entry between two layers while training: never before the first layer, after
        the last, or on the way from h_{t-1} to h_t (``recurrent_dropout`` of a layer). Each entry (T, N, H) has its m.
    rng : numpy.random.Generator, int or None
        Where the masks come from.

    Notes
    -----
    The layers are its children "0", "1", …; ``reverse`` is the direction in which all go, None if they differ.

    Source: Pham et al. 2014 (arXiv:1312.4569), which drops on the connections that are not recurrent. To drop what goes
    into the first layer or comes out of the last, too, put a `Dropout` before or after.

    Masks are drawn in the order (T, N, H), also for ``batch_first``: the layout changes no number.

    >>> import minirnn as mr
    >>> stack = Stacked([mr.RecurrentLayer(3, 5, rng=0), mr.RecurrentLayer(5, 4, rng=1)], dropout=0.2, rng=2)
    >>> outputs, final_state = stack(np.ones((7, 2, 3)))
    >>> outputs.shape, [state.shape for state in final_state]
    ((7, 2, 4), [(2, 5), (2, 4)])
    >>> [name for name, _ in stack.named_parameters()]
    ['0.W_xh', '0.W_hh', '0.b_h', '1.W_xh', '1.W_hh', '1.b_h']
    """  # noqa: D400

    def __init__(self, layers: Sequence[Recurrence], dropout: float = 0.0, rng: Rng = None) -> None:
        super().__init__()
        if not isinstance(layers, list | tuple):
            raise TypeError(
                f"{self.name}: layers must be a list or tuple of recurrent layers, got {describe(layers)}: "
                f"try {self.name}([layer, …])"
            )
        if not layers:
            raise ValueError(f"{self.name}: layers must hold at least one recurrent layer, got none")
        _check(self.name, {f"layers[{i}]": layer for i, layer in enumerate(layers)}, ("dtype", "batch_first"))
        for i, (below, above) in enumerate(pairwise(layers)):
            if below.output_size != above.input_size:
                raise ValueError(
                    f"{self.name}: layers[{i}] ({below.name}) returns output_size={below.output_size} and "
                    f"layers[{i + 1}] ({above.name}) reads input_size={above.input_size}: "
                    f"make layers[{i + 1}] with input_size={below.output_size}"
                )
        p = as_probability(dropout, f"{self.name}: dropout")
        if p and len(layers) == 1:
            raise ValueError(f"{self.name}: dropout={p} would do nothing: it acts between layers, and there is one")
        if not p and rng is not None:
            raise ValueError(f"{self.name}: rng would do nothing without dropout: leave it out, or set dropout")
        self.input_size, self.output_size = layers[0].input_size, layers[-1].output_size
        self.dtype, self.batch_first = layers[0].dtype, layers[0].batch_first
        self.reverse = layers[0].reverse if len({layer.reverse for layer in layers}) == 1 else None
        for i, layer in enumerate(layers):
            setattr(self, str(i), layer)
        self._count = len(layers)
        self.dropout = Dropout(p, rng) if p else None

    @property
    def layers(self) -> tuple[Recurrence, ...]:
        """The layers, from the bottom up."""
        return tuple(getattr(self, str(i)) for i in range(self._count))

    def forward(
        self, x: Any, initial_state: Any = None, lengths: Any = None, *, reset: Any = None
    ) -> RecurrentOutput[tuple[Any, ...]]:
        """Run the layers over a mini-batch of sequences, from the bottom up.

        The arguments are those of `RecurrentLayer.forward`, the same for all layers but for ``initial_state``, a list
        or tuple with an entry for each. The outputs (T, N, H) are those of the last layer.
        """
        finals, states = [], self._states(initial_state, "initial_state")
        with _draws_only_if_done(self):
            for i, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
                with _noted(self, f"layers[{i}]", layer):
                    x, final = layer(self._dropped(x) if i else x, state, lengths, reset=reset)
                finals.append(final)
        return RecurrentOutput(x, tuple(finals))

    def step(self, x_t: Any, state: Any = None) -> tuple[Any, ...]:
        """Process one step: x_t (N, D) and a state, one entry a layer, give the next state.

        The same numbers as on the whole sequence; while training with dropout, other masks, since each step draws its
        own for each layer in turn.
        """
        if self.reverse is None:
            raise TypeError(
                f"{self.name}: there is no step, because its layers do not all go one way through time, but "
                f"{', '.join(_WAYS[layer.reverse] for layer in self.layers)}: call it on the sequence"
            )
        following: list[Any] = []
        with _draws_only_if_done(self):
            for i, (layer, before) in enumerate(zip(self.layers, self._states(state, "state"), strict=True)):
                with _noted(self, f"layers[{i}]", layer):
                    x_t = x_t if not i or self.dropout is None else self.dropout(x_t)
                    following.append(cast(Any, layer).step(x_t, before))
                    x_t = layer.last_output(following[-1])
        return tuple(following)

    def last_output(self, final_state: Any) -> Tensor:
        """Return the (N, H) output that belongs to a final state: that of the last layer."""
        return self.layers[-1].last_output(self._states(final_state, "final_state", optional=False)[-1])

    def _dropped(self, y: Tensor) -> Tensor:
        """Return a layer's outputs as the next one reads them; the mask is drawn, and lies in memory, time-major."""
        if self.dropout is None:
            return y
        return self.dropout(y.swapaxes(0, 1)).swapaxes(0, 1) if self.batch_first else self.dropout(y)

    def _states(self, states: Any, argument: str, optional: bool = True) -> Sequence[Any]:
        expected = f"a tuple with one entry for each of {self._count} layers"
        return _entries(states, self._count, f"{self.name}: {argument}", expected, optional)

    def _block(self) -> "blocks.Block":
        from minirnn.drawing import blocks

        return blocks.Tower([layer._block() for layer in self.layers])


# --- what both need ---------------------------------------------------------------------------------------------------

_WAYS = {False: "forward", True: "backward", None: "both ways"}


def _check(name: str, layers: dict[str, Recurrence], attributes: Sequence[str]) -> None:
    """Refuse what is no recurrent layer, and layers that differ in what they must have in common with the first."""
    (first, one), *_ = layers.items()
    for argument, other in layers.items():
        if not isinstance(other, Recurrence):
            raise TypeError(
                f"{name}: {argument} must be a recurrent layer such as RecurrentLayer, got {type(other).__name__}"
            )
        for attribute in attributes:
            a, b = getattr(one, attribute), getattr(other, attribute)
            if a != b:
                raise ValueError(
                    f"{name}: {first} ({one.name}) has {attribute}={a} and {argument} ({other.name}) {b}: "
                    f"make both with {attribute}={'numpy.' * (attribute == 'dtype')}{a}"
                )


def _entries(states: Any, count: int, argument: str, expected: str, optional: bool) -> Sequence[Any]:
    """Return ``count`` states, each None if there are none."""
    if states is None and optional:
        return (None,) * count
    expected = f"{argument} must be {'None or ' * optional}{expected}"
    hint = "each is a layer's own state" + ", or None" * optional
    if isinstance(states, RecurrentOutput):
        raise TypeError(f"{expected}, got a RecurrentOutput: pass its final_state")
    if not isinstance(states, list | tuple):
        raise TypeError(
            f"{expected}, got {describe(states)}: "
            + (f"try tuple({argument.split()[-1]})" if np.ndim(states) == 3 else hint)
        )
    if len(states) == 2 and all(getattr(state, "shape", ())[:-2] == (count,) for state in states):
        hint = f"torch's (h, c) has the layers within each array, try tuple(zip(*{argument.split()[-1]}))"
        raise ValueError(f"{expected}, got two of shape {states[0].shape}: {hint}")
    if len(states) != count:
        raise ValueError(f"{expected}, got a {type(states).__name__} of {len(states)}: {hint}")
    return states


class _noted:  # a class, since it is entered for every layer of every call: a generator takes three times as long
    """Say of an error in which of several layers it arose, and to the layer itself within `detect_anomaly`."""

    __slots__ = ("layer", "token", "where", "whole")

    def __init__(self, whole: Module, where: str, layer: Recurrence) -> None:
        self.whole, self.where, self.layer = type(whole).__name__, where, layer

    def __enter__(self) -> None:
        self.token = WITHIN.set((*WITHIN.get(), f"{self.where} of {self.whole}")) if anomaly() else None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if self.token is not None:
            WITHIN.reset(self.token)
        if isinstance(error, Exception):
            error.add_note(f"{self.whole}: this was in {self.where} ({self.layer.name})")


@contextmanager
def _draws_only_if_done(module: Module) -> Iterator[None]:
    """Put all Generators back if a call is refused when some layers have run: it changes nothing then."""
    drawn_from = {rng for _, rng in module.named_generators()} if module.training else ()
    before = [(rng, rng.bit_generator.state) for rng in drawn_from]
    try:
        yield
    except BaseException:
        for rng, state in before:
            rng.bit_generator.state = state
        raise
