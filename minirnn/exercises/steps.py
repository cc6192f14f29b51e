"""One step of a layer, forward and back, with the mistakes that people make in it.

Each equation stands here once. A mistake is a question to `Made`: where the answer is yes, the line is computed as one
who makes that mistake would. So the numbers of every known mistake come from running the same few functions, and which
mistakes an exercise knows is what was asked while its right numbers were found.
"""

from collections.abc import Callable, Collection
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np

from minirnn.textbook.reading import ACTIVATIONS, Array, sigmoid

NO_WAY = "W_hhᵀ left out on the way to h_{t-1}"
States = tuple[Array, ...]
Cache = tuple[Any, ...]


class Made:
    """The mistakes that are made this time; ``asked`` are those that could have been.

    >>> m = Made("φ left out")
    >>> m("φ left out"), m("b left out"), m.pick(1, {"φ left out": lambda: 2})
    (True, False, 2)
    """

    def __init__(self, *names: str) -> None:
        self.names, self.asked = names, dict[str, None]()

    def __call__(self, name: str) -> bool:
        """Ask for one mistake."""
        if self.names:
            return name in self.names
        self.asked[name] = None
        return False

    def first(self, names: Collection[str]) -> str:
        """Ask for all of these; return the one that is made, or ""."""
        if not self.names:
            self.asked.update(dict.fromkeys(names))
        return next((name for name in self.names if name in names), "")

    def pick(self, right: Any, wrong: dict[str, Callable[[], Any]]) -> Any:
        """Ask for all that is wrong; return what is right, or what the mistake makes of it."""
        made = self.first(wrong)
        return wrong[made]() if made else right


Ways = Callable[[Array, Array], Any]
_SLOPES: dict[str, tuple[Ways, Ways]] = {  # of y = φ(z), and z; for φ = tanh, and for σ
    "φ′ left out": (lambda y, z: np.ones_like(y), lambda y, z: np.ones_like(y)),
    "φ′ of an output that is activated again": (
        lambda y, z: 1 - np.tanh(y) ** 2,
        lambda y, z: sigmoid(y) * (1 - sigmoid(y)),
    ),
    "φ′ written for the output, taken of Z": (lambda y, z: 1 - z**2, lambda y, z: z * (1 - z)),
    "φ for φ′": (lambda y, z: y, lambda y, z: y),
    "φ for φ′#of the output": (lambda y, z: np.tanh(y), lambda y, z: sigmoid(y)),
    "φ′ of another function": (lambda y, z: y * (1 - y), lambda y, z: 1 - y**2),
    "φ′ without its square": (lambda y, z: 1 - y, lambda y, z: 1 - y),
    "φ′ with + for −": (lambda y, z: 1 + y**2, lambda y, z: y * (1 + y)),
    "φ′ with + for −#tan": (lambda y, z: 1 + np.tan(z) ** 2, lambda y, z: y * (1 + y)),
    "divided by φ′": (lambda y, z: 1 / (1 - y**2), lambda y, z: 1 / (y * (1 - y))),
}


@cache
def _kinds(where: tuple[str, ...]) -> dict[str, None]:
    return dict.fromkeys(kind + place for kind in _SLOPES for place in where)


def slope(m: Made, phi: str, y: Array, z: Array, where: tuple[str, ...] = ("",)) -> Array:
    """φ′ of y = φ(z); ``where`` are the places at which a mistake may be made, this one among them."""
    made = m.first(_kinds(where))
    return _SLOPES[made.split(" (")[0]][phi == "sigmoid"](y, z) if made else ACTIVATIONS[phi][1](y)


def bias(m: Made, dz: Array, dh: Array) -> Array:
    """The bias is added to every row, so its gradient is the sum of the rows of dz."""
    total = dz.sum(axis=0)
    wrong = {
        "bias not summed over the rows": lambda: dz,
        "bias averaged over the rows": lambda: dz.mean(axis=0),
        "bias: one number for all": lambda: np.full_like(total, dz.sum()),
        "bias gets no gradient": lambda: 0 * total,
        "bias summed along the wrong axis": lambda: dz.sum(axis=1),
        "bias of one row only": lambda: dz[0],
        "bias takes the gradient before φ′": lambda: dh.sum(axis=0),
    }
    return np.asarray(m.pick(total, wrong))


def biased(m: Made, b: Array) -> Array:
    """The bias as it is added."""
    return b * (0.0 if m("b left out") else 2.0 if m("b added twice") else 1.0)


def shares(m: Made, x_t: Array, h_prev: Array, h: Array, dz: Array, before: Array) -> list[Array]:
    """What a step adds to dW_xh, dW_hh and db; ``before`` is dz before φ′."""
    if m("H_t for H_{t-1} in dW_hh"):
        h_prev = h
    dW_hh = h_prev.T @ dz
    if m("dW_hh before φ′"):
        dW_hh = h_prev.T @ before
    if m("dW_xh before φ′"):
        return [x_t.T @ before, dW_hh, bias(m, dz, before)]
    return [x_t.T @ dz, dW_hh, bias(m, dz, before)]


# --- Elman -----------------------------------------------------------------------------------------------------------


def elman_forward(m: Made, x_t: Array, state: States, W_xh: Array, W_hh: Array, b: Array) -> tuple[States, Cache]:
    """h = tanh(x_t W_xh + h_{t-1} W_hh + b)."""
    from_x, b = x_t @ W_xh, biased(m, b)
    from_h = state[0] @ (W_hh.T if m("W_hhᵀ for W_hh going forward") else W_hh)
    z = from_x + from_h + b
    wrong = {
        "φ over the input's product only": lambda: np.tanh(from_x) + from_h + b,
        "φ over the input's product only#b": lambda: np.tanh(from_x + b) + from_h,
        "φ over each product alone": lambda: np.tanh(from_x) + np.tanh(from_h) + b,
        "φ left out": lambda: z,
        "another φ": lambda: sigmoid(z),
        "H_{t-1} not used": lambda: np.tanh(from_x + b),
    }
    return (m.pick(np.tanh(z), wrong),), (z,)


def elman_backward(
    m: Made, d: States, x_t: Array, prev: States, new: States, cache: Cache, W_xh: Array, W_hh: Array, b: Array
) -> tuple[Array, States, list[Array]]:
    """Return dx_t, dh_{t-1} and the step's share of dW_xh, dW_hh, db."""
    dh, h, (z,) = d[0], new[0], cache
    dz = dh * slope(m, "tanh", h, z)
    if m("φ′ added where it multiplies"):
        dz = dh + 1 - h**2
    wrong = {
        "W_hh for W_hhᵀ": lambda: dz @ W_hh,
        NO_WAY: lambda: dz.copy(),
        "the way to h_{t-1} starts before φ′": lambda: dh @ W_hh.T,
        "what is carried is only added up": lambda: dh.copy(),
    }
    dx = (dh if m("dx before φ′") else dz) @ W_xh.T
    own = shares(m, x_t, prev[0], h, dz, dh)
    if m("dW_hh transposed"):
        own[1] = own[1].T
    return dx, (m.pick(dz @ W_hh.T, wrong),), own


# --- gates -----------------------------------------------------------------------------------------------------------


def _places(name: str, *more: str) -> tuple[str, ...]:
    return (f" (gate {name})", " (all gates)", " (all gates and tanh(c))", *more)


_NOT_BACK = "#not on the way back"


@cache
def _orders(names: str, what: str, variant: str = "") -> dict[str, tuple[str, ...]]:
    return {f"{what} ({', '.join(order)}){variant}": order for order in [*permutations(names)][1:]}


@cache
def _swaps(names: str, what: str) -> dict[str, tuple[str, str]]:
    return {f"{what} ({one} for {other})": (one, other) for one, other in permutations(names, 2)}


def _gates(m: Made, a: Array, names: str) -> list[Array]:
    """Split a into the gates' blocks."""
    others = _orders(names, "gates in another order") | _orders(names, "gates in another order", _NOT_BACK)
    order = others.get(m.first(others), tuple(names))
    blocks = dict(zip(order, np.split(a, len(names), axis=1), strict=True))
    return [blocks[name] for name in names]


def _beside(m: Made, d: dict[str, Array], bare: dict[str, Array]) -> tuple[Array, Array]:
    """Put the gates' gradients side by side, and what they were before the gates' derivatives."""
    names = "".join(d)
    swaps = _swaps(names, "one gate's gradient stands for another's")
    if made := m.first(swaps):
        d = {**d, swaps[made][1]: d[swaps[made][0]]}
    orders = _orders(names, "the gates' gradients in another order") | _orders(names, "gates in another order")
    order = orders.get(m.first(orders), tuple(names))
    return np.hstack([d[name] for name in order]), np.hstack([bare[name] for name in names])


def _back(
    m: Made, names: str, x_t: Array, h_prev: Array, h: Array, dz: Array, bare: Array, W_xh: Array, W_hh: Array
) -> tuple[Array, Array, list[Array]]:
    """Return dx_t, dh_{t-1} and the shares, from the gates' gradients: of the LSTM all, of the GRU those of its x."""
    way, blocks = dz.copy(), {name: slice(k * h.shape[1], (k + 1) * h.shape[1]) for k, name in enumerate(names)}
    for name in names:
        if m(f"a gate's way to h_{{t-1}} is left out ({name})"):
            way[:, blocks[name]] = 0.0
    own = shares(m, x_t, h_prev, h, dz, bare)
    sources = _swaps(names, "one gate's bias takes another's gradient")
    copied = [sources[made]] if (made := m.first(sources)) else []
    if "f" in names and m("one gate's bias takes another's gradient (f for i and o)"):
        copied = [("f", "i"), ("f", "o")]
    for from_, to in copied:
        own[2][..., blocks[to]] = own[2][..., blocks[from_]]
    dx = (bare if m("dx before φ′") else dz) @ W_xh.T
    return dx, (bare if m("the way to h_{t-1} starts before φ′") else way) @ W_hh.T, own


# --- LSTM ------------------------------------------------------------------------------------------------------------


def lstm_forward(m: Made, x_t: Array, state: States, W_xh: Array, W_hh: Array, b: Array) -> tuple[States, Cache]:
    """c = f ⊙ c_{t-1} + i ⊙ g, h = o ⊙ tanh(c)."""
    h_prev, c_prev = state
    b = biased(m, b)
    b_i, b_f, b_g, b_o = np.split(b, 4)
    wrong = {
        "b_o added in other gates too": lambda: np.hstack([b_o, b_o, b_g, b_o]),
        "b_o added in other gates too#as well": lambda: np.hstack([b_i + b_o, b_f + b_o, b_g, b_o]),
        "b_o added in other gates too#all": lambda: np.hstack([b_o, b_o, b_o, b_o]),
    }
    a = _gates(m, x_t @ W_xh + h_prev @ W_hh + m.pick(b, wrong), "ifgo")
    i, f, o = sigmoid(a[0]), sigmoid(a[1]), sigmoid(a[3])
    g = sigmoid(a[2]) if m("σ where tanh makes the candidate") else np.tanh(a[2])
    sums = {
        "i + g for i ⊙ g": lambda: f * c_prev + i + g,
        "c_{t-1} is kept without f": lambda: c_prev + i * g,
        "c_{t-1} not used": lambda: i * g,
        "g enters without i": lambda: f * c_prev + g,
    }
    c = m.pick(f * c_prev + i * g, sums)
    shown = {"h = o ⊙ c, without tanh": lambda: c, "h from c_{t-1}": lambda: np.tanh(c_prev)}
    return (o * m.pick(np.tanh(c), shown), c), (i, f, g, o, *a)


_BRACKET = "a bracket is missing: the gates' slopes multiply only what comes through h"


def lstm_backward(
    m: Made, d: States, x_t: Array, prev: States, new: States, cache: Cache, W_xh: Array, W_hh: Array, b: Array
) -> tuple[Array, States, list[Array]]:
    """Return dx_t, (dh_{t-1}, dc_{t-1}) and the step's share of dW_xh, dW_hh, db."""
    (dh, from_later), (h_prev, c_prev), (h, c) = d, prev, new
    i, f, g, o, *a = cache
    tanh_c, dtanh = np.tanh(c), slope(m, "tanh", np.tanh(c), c, (" (tanh(c))", " (all gates and tanh(c))"))
    if m("h = o ⊙ c, without tanh") or m("h = o ⊙ c, without tanh#but 1 − c²"):
        tanh_c, dtanh = c, 1.0 - c**2 * (m.names[0][-1] == "²")
    through_h = dh * o * dtanh
    sums = {
        "dc from later steps is not added": lambda: through_h,
        "dh's way into dc is left out": lambda: from_later,
        "h_t's gradient reaches c_t without o": lambda: from_later + dh * dtanh,
    }
    dc = m.pick(from_later + through_h, sums)
    bare = {"i": dc * g, "f": dc * c_prev, "g": dc * i, "o": dh * tanh_c}
    changed = {
        "o's gradient taken with c's": lambda: {"o": dc * tanh_c},
        "c for tanh(c) in o's gradient": lambda: {"o": dh * c},
        "c_t for c_{t-1} in f's gradient": lambda: {"f": dc * c},
        "h_{t-1} for c_{t-1} in f's gradient": lambda: {"f": dc * h_prev},
        "i's gradient exchanged with g's": lambda: {"i": dc * i, "g": dc * g},
    }
    bare |= m.pick({}, changed)
    slopes = {
        name: slope(m, phi, y, z, _places(name, *(" (the sigmoid gates)",) * (phi == "sigmoid")))
        for name, phi, y, z in zip("ifgo", ("sigmoid", "sigmoid", "tanh", "sigmoid"), (i, f, g, o), a, strict=True)
    }
    da = {name: bare[name] * slopes[name] for name in "ifgo"}
    bracket = {_BRACKET: "ifg", **{f"{_BRACKET} (gate {name})": name for name in "ifg"}}
    for name in bracket.get(m.first(bracket), ""):
        da[name] = {"i": g, "f": c_prev, "g": i}[name] * (from_later + through_h * slopes[name])
    dx, dh_prev, own = _back(m, "ifgo", x_t, h_prev, h, *_beside(m, da, bare), W_xh, W_hh)
    earlier = {"dc_{t-1} without f": lambda: dc, "dc_{t-1} without what comes through h": lambda: from_later * f}
    return dx, (dh_prev, m.pick(dc * f, earlier)), own


# --- GRU -------------------------------------------------------------------------------------------------------------

_NO_BIASES = ("all biases forgotten", "all biases forgotten#their gradients are not", "all biases forgotten#b's too")
_WITHOUT_B_HN = ("b_hn forgotten", "b_hn forgotten#its gradient is not", "b_hn outside r", "b_hn doubled")


def gru_forward(
    m: Made, x_t: Array, state: States, W_xh: Array, W_hh: Array, b: Array, b_hn: Array
) -> tuple[States, Cache]:
    """n = tanh(x_t W_xn + b_n + r ⊙ (h_{t-1} W_hn + b_hn)), h = (1 − z) ⊙ n + z ⊙ h_{t-1}."""
    h, H = state[0], len(b_hn)
    if m.first(_NO_BIASES):
        b, b_hn = 0 * b, 0 * b_hn
    W_n, from_x = W_hh[:, 2 * H :], x_t @ W_xh + biased(m, b)
    a_r, a_z, x_n = _gates(m, from_x + h @ np.hstack([W_hh[:, : 2 * H], 0 * W_n]), "rzn")
    r, z, product = sigmoid(a_r), sigmoid(a_z), h @ W_n
    made = m.first(_WITHOUT_B_HN)
    outside = b_hn if made in _WITHOUT_B_HN[2:] else 0 * b_hn
    q = product + (0.0 if made and made != "b_hn doubled" else b_hn)
    a_n = x_n + outside + r * q
    wrong = {
        "the reset gate before the product": lambda: x_n + (r * h) @ W_n + b_hn,
        "the reset gate before the product#no b_hn": lambda: x_n + (r * h) @ W_n,
        "the reset gate before the product#b_hn under r": lambda: x_n + (r * h) @ W_n + r * b_hn,
        "the candidate is made without the reset gate": lambda: x_n + q,
        "the reset gate takes x's part too": lambda: r * (x_n + q),
    }
    a_n = m.pick(a_n, wrong)
    n = sigmoid(a_n) if m("σ where tanh makes the candidate") else np.tanh(a_n)
    new = z * n + (1 - z) * h if m("z and 1 − z exchanged") else (1 - z) * n + z * h
    if m("tanh over h_t"):
        new = np.tanh(new)
    return (new,), (r, z, n, q, a_r, a_z, a_n, product)


def gru_backward(
    m: Made,
    d: States,
    x_t: Array,
    prev: States,
    new: States,
    cache: Cache,
    *weights: Array,
) -> tuple[Array, States, list[Array]]:
    """Return dx_t, dh_{t-1} and dW_xh, dW_hh, db, db_hn."""
    (dh,), (h_prev,), (W_xh, W_hh, _, b_hn) = d, prev, weights
    r, z, n, q, a_r, a_z, a_n, product = cache
    H = len(b_hn)
    W_n = W_hh[:, 2 * H :]
    if m("tanh over h_t"):
        dh = dh * (1 - new[0] ** 2)
    keeps, sign, enters = z, h_prev - n, 1 - z
    if m("z and 1 − z exchanged"):
        keeps, sign, enters = enters, -sign, keeps
    swaps = {
        "z's gradient with the wrong sign": lambda: (keeps, -sign, enters),
        "z and 1 − z exchanged on the way back": lambda: (enters, -sign, keeps),
        "z and 1 − z exchanged on the way back#n": lambda: (keeps, sign, keeps),
        "z and 1 − z exchanged on the way back#h": lambda: (enters, sign, enters),
        "z and 1 − z exchanged on the way back#both": lambda: (enters, sign, keeps),
    }
    keeps, sign, enters = m.pick((keeps, sign, enters), swaps)
    bare_n, bare_z = dh * enters, dh * sign
    slopes = [
        slope(m, phi, y, a, _places(name, *(" (the sigmoid gates)",) * (name in "rz")))
        for name, phi, y, a in zip("rzn", ("sigmoid", "sigmoid", "tanh"), (r, z, n), (a_r, a_z, a_n), strict=True)
    ]
    da_n = bare_n * slopes[2]
    dq, bare_r, s = da_n * r, da_n * q, h_prev
    before = [name for name in ("", "#no b_hn", "#b_hn under r") if m(f"the reset gate before the product{name}")]
    plain = m("the candidate is made without the reset gate")
    if plain or m("r left out on the way back through n"):
        dq = da_n
    if m("b_hn left out of r's gradient"):
        bare_r = da_n * product
    if m("r's gradient without n's slope"):
        bare_r = bare_n * q
    if m("b_hn outside r"):
        bare_r = da_n * product
    ds = dq @ W_n.T
    if before:
        dq, s, to_r = da_n, r * h_prev, da_n @ W_n.T
        ds, bare_r = to_r * r, to_r * h_prev
    if plain:
        bare_r = 0 * bare_r
    bare = {"r": bare_r, "z": bare_z, "n": bare_n}
    da = {"r": bare_r * slopes[0], "z": bare_z * slopes[1], "n": da_n}
    dz, bare_all = _beside(m, da, bare)
    W_rz = np.hstack([W_hh[:, : 2 * H], 0 * W_n])
    dx, dh_prev, own = _back(m, "rzn", x_t, h_prev, new[0], dz, bare_all, W_xh, W_rz)
    sides = _orders("rzn", "the gates' gradients in another order", "#on x's side")
    if made := m.first(sides):
        dz = np.hstack([da[name] for name in sides[made]])
        dx, own[0], own[2] = dz @ W_xh.T, x_t.T @ dz, dz.sum(axis=0)
    dh_prev = dh_prev + (dh * keeps if not m("z ⊙ dh left out of dh_{t-1}") else 0.0)
    dh_prev = dh_prev + (ds if not m("a gate's way to h_{t-1} is left out (n)") else 0.0)
    if m("only z ⊙ dh in dh_{t-1}"):
        dh_prev = dh * keeps
    W_share = (new[0] if m("H_t for H_{t-1} in dW_hh") else s).T @ (da_n if m("dW_hn without r") else dq)
    own[1] = np.hstack([own[1][:, : 2 * H], W_share])
    db_hn = (dq if not m("db_hn without r") else da_n).sum(axis=0)
    if m("b_hn outside r"):
        db_hn = da_n.sum(axis=0)
    made = m.first((*_NO_BIASES, "b_hn gets no gradient", "b_hn forgotten"))
    db_hn = db_hn * (made in ("", _NO_BIASES[1]))
    own[2] = own[2] * (made != _NO_BIASES[2])
    db_hn = db_hn / (len(dh) if m("bias averaged over the rows") else 1)
    return dx, (dh_prev,), [*own, db_hn]
