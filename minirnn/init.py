"""Initialisers: how the weights of a layer start.

An initialiser is a function ``(shape, rng) -> float64 array of that shape``. It always sees the matrix of **one** gate:
a layer with G gate blocks passes ``blocks=G`` to `initialise`, which draws every (D, H) or (H, H) block on its own and
sets them side by side to (D, G·H) or (H, G·H). So the blocks of an orthogonal W_hh are orthogonal one by one, and
Glorot's fan-out is H whatever the number of gates.

Weights are (inputs, outputs), for row vectors: ``x W``. A shape that is none for an initialiser is a ValueError, and so
is a setting out of range; one that is not one real number is a TypeError.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from minirnn.arguments import Generator, Made, Rng, as_array, as_generator, as_number, describe

Array = npt.NDArray[np.float64]
Shape = tuple[int, ...]
Initializer = Callable[[Shape, Generator], npt.ArrayLike]
"""What a layer accepts besides a name: a callable taking ``shape`` and ``rng``."""
InitializerName: TypeAlias = Literal["glorot", "orthogonal", "identity", "normal", "zeros", "ones", "kaiming", "lecun"]


def _matrix(shape: Shape, name: str, square: bool = False) -> tuple[int, int]:
    """Check the shape that an initialiser of matrices was asked for."""
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"{name}: shape must be (inputs ≥ 1, outputs ≥ 1), got {shape}: for a bias try zeros")
    if square and shape[0] != shape[1]:
        raise ValueError(f'{name}: shape must be square, (H, H), got {shape}: try "orthogonal", or blocks= for gates')
    return shape[0], shape[1]


def glorot_uniform(shape: Shape, rng: Generator) -> Array:
    """W_ij ~ U(−a, a) with a = √(6 / (inputs + outputs)), so that Var W_ij = 2 / (inputs + outputs).

    Keeps the variance of a linear layer's values (forward) and of its gradients (backward) as equal as one number can.
    For tanh, which is linear around 0.

    Source: Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks",
    equation 16.
    """
    limit = math.sqrt(6.0 / sum(_matrix(shape, "glorot_uniform")))
    return rng.uniform(-limit, limit, shape)


def kaiming_normal(shape: Shape, rng: Generator) -> Array:
    """W_ij ~ N(0, 2 / inputs): keeps the size of values from layer to layer where ReLU drops half of them.

    Source: He, Zhang, Ren & Sun 2015, "Delving deep into rectifiers", equation 10.
    """
    return rng.normal(0.0, math.sqrt(2.0 / _matrix(shape, "kaiming_normal")[0]), shape)


def lecun_normal(shape: Shape, rng: Generator) -> Array:
    """W_ij ~ N(0, 1 / inputs): keeps the variance of what goes forward, in a linear layer.

    Source: LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", equation 16.
    """
    return rng.normal(0.0, math.sqrt(1.0 / _matrix(shape, "lecun_normal")[0]), shape)


def orthogonal(shape: Shape | None = None, rng: Rng = None, *, gain: float = 1.0) -> Any:
    """W Wᵀ = Wᵀ W = gain²·I, drawn uniformly (Haar measure) from the orthogonal group; makes an initialiser of a gain.

    A = Q R with A_ij ~ N(0, 1); then W = Q diag(sign(R_11), …, sign(R_HH)). Without the signs, Q follows the sign
    convention of the QR routine and is not uniform. ``h W`` keeps the length of h, step after step: what a linear
    recurrence needs for its gradient neither to vanish nor to explode.

    A matrix that is not square gets orthonormal columns (more inputs than outputs) or orthonormal rows (fewer).
    For the (H, G·H) matrix of a layer with gates, `initialise` with ``blocks=G`` draws G orthogonal (H, H) blocks.

    Source: Saxe, McClelland & Ganguli 2013, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks"; the signs: Mezzadri 2007, "How to generate random matrices from the classical compact
    groups".

    >>> W_hh = orthogonal(gain=1.5)((3, 3), np.random.default_rng(0))
    >>> bool(np.allclose(W_hh @ W_hh.T, 2.25 * np.eye(3)))
    True
    """
    gain = as_number(gain, "orthogonal: gain", "a positive number", "try 1.0")
    return Made(_orthogonal, gain) if shape is None else _orthogonal(gain, shape, as_generator(rng))


def _orthogonal(gain: float, shape: Shape, rng: Generator) -> Array:
    inputs, outputs = _matrix(shape, "orthogonal")
    q, r = np.linalg.qr(rng.standard_normal((max(inputs, outputs), min(inputs, outputs))))
    q = q * np.where(np.diagonal(r) < 0, -gain, gain)
    return q if inputs >= outputs else np.ascontiguousarray(q.T)


def identity(shape: Shape, rng: Generator) -> Array:
    """W = I: with ReLU and zero biases, a state that stays as it is until an input changes it (IRNN).

    Source: Le, Jaitly & Hinton 2015, "A simple way to initialize recurrent networks of rectified linear units".
    """
    return np.eye(*_matrix(shape, "identity", square=True))


def zeros(shape: Shape, rng: Generator) -> Array:
    """W_ij = 0, in any shape; ``rng`` is not used. The usual start of a bias."""
    return np.zeros(shape)


def ones(shape: Shape, rng: Generator) -> Array:
    """W_ij = 1, in any shape; ``rng`` is not used."""
    return np.ones(shape)


def constant(value: float) -> Callable[[Shape, Generator], Array]:
    """Make the initialiser W_ij = ``value``, in any shape."""
    return Made(
        _constant,
        as_number(value, "constant: value", hint="try constant(0.1); for an array try lambda shape, rng: array"),
    )


def _constant(value: float, shape: Shape, rng: Generator) -> Array:
    return np.full(shape, value)


def normal(std: float, mean: float = 0.0) -> Callable[[Shape, Generator], Array]:
    """Make the initialiser W_ij ~ N(mean, std²), in any shape.

    ``std`` is the standard deviation, not the variance. The name "normal" stands for ``normal(0.001)``, the start of
    the non-recurrent weights in Le, Jaitly & Hinton 2015 (IRNN).
    """
    hint = "normal(0.001) makes an initialiser"
    scale = as_number(std, "normal: std", "a number ≥ 0", hint)
    return Made(_normal, scale, as_number(mean, "normal: mean", hint=hint))


def _normal(std: float, mean: float, shape: Shape, rng: Generator) -> Array:
    return rng.normal(mean, std, shape)


def uniform(low: float, high: float) -> Callable[[Shape, Generator], Array]:
    """Make the initialiser W_ij ~ U[low, high), in any shape."""
    hint = "uniform(-0.1, 0.1) makes an initialiser"
    a, b = as_number(low, "uniform: low", hint=hint), as_number(high, "uniform: high", hint=hint)
    if a >= b:
        raise ValueError(f"uniform: low must be below high, got low={a} and high={b}: try uniform({b}, {a})")
    return Made(_uniform, a, b)


def _uniform(low: float, high: float, shape: Shape, rng: Generator) -> Array:
    return rng.uniform(low, high, shape)


def spectral(radius: float) -> Callable[[Shape, Generator], Array]:
    """Make the initialiser of a random square W with the spectral radius ``radius``: its largest |eigenvalue|.

    W = radius · A / ρ(A) with A_ij ~ N(0, 1), where ρ is the spectral radius; the scale of A drops out. With blocks of
    gates each block has the radius.

    t steps of ``h W`` multiply a gradient by Wᵗ, whose size goes like ρ(W)ᵗ in the long run: below 1 the gradient
    vanishes, above 1 it can explode. (The slopes of φ come on top; those of tanh, at most 1, make it smaller.) Over a
    few steps the radius says less: ‖W‖, the most that one step can do, is about 2 · radius when H is large.
    `orthogonal` has radius 1 and ‖Wᵗ‖ = 1 for every t.

    All eigenvalues are computed, in a time of order H³. There is no preset of this name: no radius is the usual one.

    Source: Jaeger 2001, "The echo state approach to analysing and training recurrent neural networks", GMD Report 148;
    ρ and the gradients: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", 2.1.

    >>> W_hh = spectral(0.9)((5, 5), np.random.default_rng(0))
    >>> round(float(max(abs(np.linalg.eigvals(W_hh)))), 12)
    0.9
    """
    return Made(_spectral, as_number(radius, "spectral: radius", "a number ≥ 0", "spectral(0.9) makes an initialiser"))


def _spectral(radius: float, shape: Shape, rng: Generator) -> Array:
    _matrix(shape, "spectral", square=True)
    A = rng.standard_normal(shape)
    largest = float(np.abs(np.linalg.eigvals(A)).max())
    if largest == 0:
        raise ValueError("spectral: rng must draw a matrix with an eigenvalue other than 0: try a numpy Generator")
    return radius * (A / largest) + 0.0  # + 0.0 turns the -0.0 of radius 0 into 0.0


PRESETS: dict[str, Initializer] = dict(
    zip(
        get_args(InitializerName),
        (glorot_uniform, orthogonal, identity, normal(0.001), zeros, ones, kaiming_normal, lecun_normal),
        strict=True,
    )
)
"""Every initialiser that has a name; "normal" is N(0, 0.001²)."""


# --- what layers call -------------------------------------------------------------------------------------------------


def get(initializer: str | Initializer, argument: str = "initializer") -> Initializer:
    """Look up an initialiser by its name in `PRESETS`; a callable passes through, and all else is refused.

    Errors call it ``argument``, such as ``"RecurrentLayer: recurrent_initializer"``.

    >>> get("zeros")((2, 3), np.random.default_rng(0))
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """
    if isinstance(initializer, str) and initializer in PRESETS:
        return PRESETS[initializer]
    if not callable(initializer):
        raise (ValueError if isinstance(initializer, str) else TypeError)(
            f"{argument} must be one of {', '.join(map(repr, PRESETS))} or a callable taking (shape, rng), got "
            f"{describe(initializer)}: for a number try constant(number), for an array try lambda shape, rng: array"
        )
    return initializer


def initialise(
    initializer: str | Initializer,
    shape: Shape,
    rng: Generator,
    dtype: npt.DTypeLike,
    argument: str,
    blocks: int = 1,
) -> npt.NDArray[np.floating]:
    """Resolve an initialiser, call it, and check what it gives: finite real numbers in the shape asked for.

    Drawn in float64 and then rounded to ``dtype``, so that a float32 layer has the float64 layer's weights, rounded.
    The last axis of a ``shape`` (D, G·H), (H, G·H), (G·H,), … is cut into G = ``blocks`` equal blocks, in order, and
    the initialiser is called for each. The array is C-contiguous and a new one, even if the initialiser gives the same
    every time.

    >>> rng = np.random.default_rng(0)
    >>> W_hh = initialise("orthogonal", (3, 12), rng, np.float64, "recurrent_initializer", blocks=4)
    >>> bool(np.allclose(W_hh[:, 3:6] @ W_hh[:, 3:6].T, np.eye(3)))
    True
    """
    function = get(initializer, argument)
    if shape[-1] % blocks:
        raise ValueError(f"{argument}: shape must have a last axis that is a multiple of blocks={blocks}, got {shape}")
    block = (*shape[:-1], shape[-1] // blocks)
    return np.concatenate([_checked(function(block, rng), block, dtype, argument) for _ in range(blocks)], axis=-1)


def _checked(given: npt.ArrayLike, shape: Shape, dtype: npt.DTypeLike, argument: str) -> npt.NDArray[np.floating]:
    value = as_array(given, f"{argument}: what it gives", np.float64)
    if value.shape != shape or value.dtype.kind == "b":
        raise ValueError(
            f"{argument} must give real numbers of shape {shape}, got {describe(value)}: "
            "use the shape it is called with; a layer with gates asks for one gate at a time"
        )
    with np.errstate(over="ignore"):  # the check below reports it, with the argument's name
        cast: npt.NDArray[np.floating] = value.astype(dtype)
    if not (finite := np.isfinite(cast)).all():
        at = tuple(map(int, np.argwhere(~finite)[0]))
        raise ValueError(
            f"{argument} must give values finite in {cast.dtype}, got {value[at]} at index {at}: try a smaller scale"
        )
    return cast
