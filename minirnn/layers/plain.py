"""Layers without recurrence: Linear, Embedding, Dropout."""

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from minirnn.arguments import (
    Rng,
    as_array,
    as_flag,
    as_generator,
    as_index,
    as_probability,
    as_size,
    class_ids,
    float_dtype,
    typed,
)
from minirnn.autograd.functions import where
from minirnn.autograd.modes import check_finite
from minirnn.autograd.tensor import Tensor
from minirnn.init import Initializer, InitializerName, initialise
from minirnn.kernels.one_hot import OneHot as Held
from minirnn.layers.containers import Sequential as Sequential
from minirnn.layers.module import Module, Parameter


class Linear(Module):
    """y = x W + b on the last axis: (…, in) → (…, out).

    Parameters
    ----------
    in_features, out_features : int
    initializer : str or callable (shape, rng) -> array
        Of the weight; the bias starts at zero.

    Attributes
    ----------
    weight : Parameter (in, out)
        What x is multiplied with from the right.
    bias : Parameter (out,) or None
        Added to every row.

    Notes
    -----
    As a head it is note 000's O_t = H_t W_hy + b_y, with in = H and out = P.

    >>> Linear(20, 5)(np.zeros((7, 2, 20))).shape
    (7, 2, 5)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        initializer: InitializerName | Initializer = "glorot",
        dtype: npt.DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        super().__init__()
        self.in_features = as_size(in_features, "Linear: in_features")
        self.out_features = as_size(out_features, "Linear: out_features")
        self.dtype = float_dtype(dtype, "Linear: dtype")
        bias = as_flag(bias, "Linear: bias")
        shape = (self.in_features, self.out_features)
        self.weight = Parameter(initialise(initializer, shape, as_generator(rng), self.dtype, "Linear: initializer"))
        self.bias = Parameter(np.zeros(self.out_features, self.dtype)) if bias else None

    def forward(self, x: Any) -> Tensor:
        """Apply to the last axis of ``x``, an array or a Tensor; an array is kept, not copied, until `backward`."""
        x = x if isinstance(x, Tensor) else Tensor(as_array(x, "Linear: x", self.dtype))
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ValueError(
                f"Linear: x must have shape (…, in={self.in_features}), got {x.shape}: "
                f"the layer was made with in_features={self.in_features}"
            )
        check_finite(x.data, "Linear: x", "look at the data that comes in")
        x = x if x.dtype is self.dtype else typed(x, self.dtype, "Linear: x")
        y: Tensor = x @ self.weight
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        return f"{self.in_features}, {self.out_features}" + (", bias=False" if self.bias is None else "")


class Embedding(Module):
    """A vector for each class id: y = weight[id], (…) ids → (…, D).

    The same as one-hot vectors times ``weight``, without making them.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        How many ids there are, and D.
    initializer : str or callable (shape, rng) -> array
    padding_idx : int, optional
        An id whose vector is 0, and stays so: no gradient goes to it.

    Attributes
    ----------
    weight : Parameter (num_embeddings, D)
        Row k is the vector of id k.

    >>> Embedding(4, 3)([[0, 3], [1, 1]]).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        initializer: InitializerName | Initializer = "glorot",
        padding_idx: int | None = None,
        dtype: npt.DTypeLike = np.float32,
        rng: Rng = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = as_size(num_embeddings, "Embedding: num_embeddings")
        self.embedding_dim = as_size(embedding_dim, "Embedding: embedding_dim")
        shape = (self.num_embeddings, self.embedding_dim)
        dtype = float_dtype(dtype, "Embedding: dtype")
        self.padding_idx = padding_idx
        if padding_idx is not None:
            what, places = "the id of one of its rows,", range(self.num_embeddings)
            self.padding_idx = as_index(padding_idx, "Embedding: padding_idx", what, places, "leave it out for none")
        self.weight = Parameter(initialise(initializer, shape, as_generator(rng), dtype, "Embedding: initializer"))
        if padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, ids: Any) -> Tensor:
        """Look the ids up."""
        ids = class_ids(ids, self.num_embeddings, "Embedding: ids")
        vectors = self.weight[ids]
        return vectors if self.padding_idx is None else where((ids != self.padding_idx)[..., None], vectors, 0.0)

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class OneHot(Module):
    """A row of 0 with a 1 for each class id: (…) ids → (…, D), D being how many ids there are.

    As the embedding of a `SequenceModel` it costs nothing: the layer takes rows of W_xh, and makes no product of zeros.

    >>> OneHot(3)([2, 0]).numpy()
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """

    def __init__(self, num_embeddings: int, *, dtype: npt.DTypeLike = np.float32) -> None:
        super().__init__()
        self.num_embeddings = self.embedding_dim = as_size(num_embeddings, "OneHot: num_embeddings")
        self.dtype = float_dtype(dtype, "OneHot: dtype")

    def forward(self, ids: Any) -> Tensor:
        """Make the rows."""
        ids = class_ids(ids, self.num_embeddings, "OneHot: ids")
        return Tensor(np.asarray(Held(ids, self.num_embeddings, self.dtype)))

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        return f"{self.num_embeddings}"


class Dropout(Module):
    """Entries set to 0 at random while training, the others scaled up: y = x ⊙ m / (1 − p), m ~ Bernoulli(1 − p).

    Each entry has its own m, drawn anew in every call. Since E[y] = x, nothing has to be scaled afterwards: in
    evaluation mode y = x.

    Parameters
    ----------
    p : float
        The probability of dropping an entry, 0 < p < 1.
    rng : numpy.random.Generator, int or None
        Where the masks come from. It moves on with every call in training mode, and is not part of `state_dict`. A copy
        of the layer, by ``copy.deepcopy`` or pickle, has one of its own in the same state, and so draws the same masks.

    Notes
    -----
    Source: Hinton et al. 2012 (arXiv:1207.0580) and Srivastava et al. 2014 (JMLR 15:1929), who scale the weights by
    1 − p in evaluation instead. In a recurrent net it belongs between the layers, not between the steps: see `Stacked`.

    >>> layer = Dropout(0.5, rng=0)
    >>> layer(np.ones((2, 4))).numpy()
    array([[2., 0., 0., 0.],
           [2., 2., 2., 2.]])
    >>> layer.eval()(np.ones((1, 4))).numpy()
    array([[1., 1., 1., 1.]])
    """

    def __init__(self, p: float, rng: Rng = None) -> None:
        super().__init__()
        self.p = as_probability(p, "Dropout: p")
        if not self.p:
            raise ValueError("Dropout: p=0 would do nothing: leave it out")
        self.rng = as_generator(rng)

    def forward(self, x: Any) -> Tensor:
        """Drop entries of ``x``, an array or a Tensor of any shape; in evaluation mode return it as it is."""
        y: Tensor = x if isinstance(x, Tensor) else Tensor(as_array(x, "Dropout: x"))
        if y.dtype.kind != "f":
            raise TypeError(
                f"Dropout: x must be floats, got an array of shape {y.shape} and dtype {y.dtype}: "
                "try x.astype(numpy.float32); class ids go through an Embedding first"
            )
        check_finite(y.data, "Dropout: x", "look at the data that comes in")
        if not self.training:
            return y
        kept = self.rng.random(y.shape) >= self.p  # drawn in float64: the same entries in every dtype
        return cast(Tensor, y * (kept * y.dtype.type(1 / (1 - self.p))))

    def extra_repr(self) -> str:
        """Return the settings shown between the brackets of ``repr``."""
        return f"{self.p}"
