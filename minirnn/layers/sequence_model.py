"""SequenceModel: a recurrent module and a head that reads its outputs."""

from typing import Any, Generic, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from minirnn.arguments import as_size, counting, one_of
from minirnn.autograd.tensor import Tensor
from minirnn.layers.module import Module
from minirnn.layers.recurrence import Recurrence, RecurrentOutput, State

Readout: TypeAlias = Literal["all", "last"]
READOUTS: tuple[Readout, ...] = get_args(Readout)


class SequenceOutput(NamedTuple, Generic[State]):
    """What a `SequenceModel` returns.

    Attributes
    ----------
    predictions : Tensor (T, N, P), or (N, P)
        Of every step for readout="all", (N, T, P) for ``batch_first``; of the last one for "last".
    final_state : as the recurrent module has it
        A Tensor (N, H), (h, c) of an LSTM, a tuple of a composite.
    """

    predictions: Tensor
    final_state: State


class SequenceModel(Module, Generic[State]):
    """A recurrent module and a head that reads its outputs: O_t = head(H_t).

    Parameters
    ----------
    recurrent : recurrent module
        A layer, or what is composed of layers: `Bidirectional`, `Stacked`.
    head : Module
        Usually `Linear` (H → P), H being the ``output_size`` of the recurrent module.
    readout : "all" or "last"
        Whether the head reads every step's output or that of the last step processed: in each row its own, where
        lengths are given; in each direction its own, where there are two.
    embedding : Module, optional
        Applied first, to turn class ids (T, N) into vectors (T, N, D); see `Embedding`.

    Notes
    -----
    Source: note 000, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h) and O_t = H_t W_hy + b_y.

    >>> import minirnn as mr
    >>> exam = mr.SequenceModel(mr.RecurrentLayer(10, 20, bias=False), mr.Linear(20, 5, bias=False))
    >>> exam.count_params()
    700
    """

    carries_state = True

    def __init__(
        self,
        recurrent: Recurrence[State],
        head: Module,
        readout: Readout = "all",
        *,
        embedding: Module | None = None,
    ) -> None:
        super().__init__()
        for argument, value, kind, such in (
            ("recurrent", recurrent, Recurrence, "a recurrent layer"),
            ("head", head, Module, "a Module such as Linear"),
            ("embedding", embedding, Module | None, "a Module such as Embedding, or None"),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"SequenceModel: {argument} must be {such}, got {type(value).__name__}")
        if head.carries_state:
            raise TypeError(
                f"SequenceModel: head must not carry a state, got {type(head).__name__}: its state would be lost; "
                "call the two layers one after the other in a Module of your own"
            )
        D, H, dtype = recurrent.input_size, recurrent.output_size, recurrent.dtype
        for what, size, of_recurrent, expected, hint in (
            ("embedding gives", getattr(embedding, "embedding_dim", D), "takes D", D, f"Embedding(…, {D})"),
            ("head takes", getattr(head, "in_features", H), "gives H", H, f"Linear({H}, …)"),
        ):
            if size != expected:
                raise ValueError(
                    f"SequenceModel: {what} {size} features and recurrent {of_recurrent}={expected}: try {hint}"
                )
        if (other := getattr(head, "dtype", dtype)) != dtype:
            raise ValueError(
                f"SequenceModel: recurrent is {dtype} and head {other}: make both with dtype=numpy.{dtype}"
            )
        self.embedding = embedding
        self.recurrent = recurrent
        self.head = head
        self.readout = one_of(readout, READOUTS, "SequenceModel: readout")

    @property
    def batch_first(self) -> bool:
        """Whether it reads and predicts (N, T, …), as its recurrent module does."""
        return self.recurrent.batch_first

    def forward(
        self, x: Any, initial_state: Any = None, lengths: Any = None, *, reset: Any = None
    ) -> SequenceOutput[State]:
        """Run the recurrent module over a mini-batch of sequences, and the head over its outputs.

        Parameters
        ----------
        x : array_like or Tensor (T, N, D)
            Ids (T, N) with an embedding; the first two axes exchanged for ``batch_first``. With ``lengths`` any ids
            may stand in the padding.
        initial_state, lengths, reset
            As the recurrent module takes them; see `RecurrentLayer.forward`. Predictions past a row's end are
            head(0): a loss should be given the lengths too.
        """
        outputs, final_state = self._run(x, initial_state, lengths, reset)
        read = outputs if self.readout == "all" else self.recurrent.last_output(final_state)
        return SequenceOutput(self.head(read), final_state)

    def _run(self, x: Any, initial_state: Any, lengths: Any, reset: Any) -> RecurrentOutput[State]:
        """Run the recurrent module, on the ids themselves where that is less work than vectors would be."""
        recurrent, embedding = self.recurrent, self.embedding
        if embedding is not None and type(self).embed is SequenceModel.embed:
            from minirnn.layers import ids  # which knows layers, as they are not asked to know here

            if (held := ids.taken(recurrent, embedding, x, lengths)) is not None:
                return ids.unrolled(recurrent, embedding, held, initial_state, lengths, reset)
        return recurrent(self.embed(x, lengths), initial_state, lengths, reset=reset)

    def embed(self, ids: Any, lengths: Any) -> Any:
        """Apply the embedding, if there is one, as if id 0 stood in the padding, where ids (T, N) may be anything."""
        if self.embedding is None:
            return ids
        if lengths is None or (array := np.asarray(ids)).ndim != 2 or array.dtype.kind not in "iu" or not array.size:
            return self.embedding(ids)  # it or the layer says what is wrong, if anything is
        valid = counting(lengths, array.shape, f"{self.recurrent.name}: lengths", self.batch_first)
        return self.embedding(np.where(valid, array, 0))

    def to_svg(self, T: int = 5) -> str:
        """Draw it as `Recurrence.to_svg` does, with the embedding below and the head above."""
        from minirnn.drawing import blocks, unrolled

        weight = getattr(self.head, "weight", None)
        shown = None if weight is None else blocks.Weight("weight", weight.shape)
        head = blocks.Box(type(self.head).__name__, shown, getattr(self.head, "out_features", None))
        below = [] if self.embedding is None else [blocks.Box(type(self.embedding).__name__)]
        block = blocks.Tower([*below, self.recurrent._block()])
        title = f"SequenceModel({self.extra_repr()}): {self.count_params():,} parameters"
        picture = blocks.Picture(
            title, block, None if below else self.recurrent.input_size, (), head, self.readout == "all"
        )
        return unrolled.draw(picture, as_size(T, "SequenceModel.to_svg: T"))

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        return f"readout={self.readout!r}"
