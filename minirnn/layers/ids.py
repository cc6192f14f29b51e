"""Class ids on their way into a layer: rows of W_xh instead of a product, where that is less work.

An embedding E (V, D) and the layer's product are E[id] W_xh = (E W_xh)[id]: one small product for all ids, of which
rows are taken; its gradient is made of the sums of dZ by id, and dX is never made. Without an embedding, for one-hot
inputs, it is W_xh[id]. tests/layers/test_ids.py holds both ways against each other.
"""

from typing import Any

import numpy as np

from minirnn.arguments import class_ids, counting
from minirnn.autograd.modes import ANOMALY, MODE, RECORD
from minirnn.kernels import unroll
from minirnn.kernels.one_hot import OneHot as Held
from minirnn.layers.layer import Layer
from minirnn.layers.plain import Embedding, OneHot
from minirnn.layers.recurrence import Recurrence, RecurrentOutput, State


def taken(recurrent: Any, embedding: Any, ids: Any, lengths: Any) -> Held | None:
    """Return ids as `Layer.on_rows` reads them, id 0 in the padding; None where the embedding is to make vectors.

    That is so for anything but an ndarray of ids (T, N), a layer with a kernel and an `Embedding` or `OneHot` as they
    come, within `detect_anomaly`, and where rows would be more work.
    """
    if (
        type(ids) is not np.ndarray
        or ids.ndim != 2
        or ids.dtype.kind not in "iu"
        or not ids.size
        or MODE.get() & ANOMALY
        or not less_work(recurrent, embedding, ids.size, bool(MODE.get() & RECORD))
    ):
        return None
    if lengths is not None:
        valid = counting(lengths, ids.shape, f"{recurrent.name}: lengths", recurrent.batch_first)
        ids = np.where(valid, ids, 0)
    V, of = embedding.num_embeddings, f"{type(embedding).__name__}: ids"
    return Held(class_ids(ids, V, of), V, recurrent.dtype)


def less_work(recurrent: Any, embedding: Any, rows: int, recording: bool = True) -> bool:
    """Whether a layer can take rows for so many ids, T·N, and has less to multiply then.

    Of each row the products with D are saved, forward and twice on the way back, the last for sums that cost about as
    much as one; but E W_xh and its gradients are made, and a kernel on columns reads V numbers where it read D.
    """
    if (
        type(embedding) not in (Embedding, OneHot)
        or not isinstance(recurrent, Layer)
        or getattr(recurrent.forward, "__func__", None) is not Layer.forward
        or "forward" in vars(embedding)
        or recurrent.backend == "graph"
        or recurrent.by_op
    ):
        return False
    if isinstance(embedding, OneHot):
        return True
    V, D = embedding.num_embeddings, recurrent.input_size
    if embedding.padding_idx is not None or embedding.weight.dtype is not recurrent.dtype:
        return False
    products, saved = (4, 2 * D) if recording else (2, D)
    return bool(read_of_each(recurrent, V) + products * V * D / rows <= saved)


def read_of_each(recurrent: Any, V: int) -> int:
    """Return how many numbers of each row a layer's kernel multiplies: none of V, but for one on columns."""
    return 0 if unroll.falls(recurrent._kernel, bool(recurrent.message_clip)) else V


def unrolled(
    recurrent: Recurrence[State], embedding: Any, held: Held, initial_state: Any, lengths: Any, reset: Any
) -> RecurrentOutput[State]:
    """Run a layer on the ids that `taken` has returned."""
    table = None if isinstance(embedding, OneHot) else embedding.weight
    assert isinstance(recurrent, Layer)
    return recurrent.on_rows(held, table, initial_state, lengths, reset=reset)
