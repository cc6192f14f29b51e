# ruff: noqa: D103  (what each function does is said in exercises.txt)
"""Every exercise's right solution, under the exercise's name: a function of `Made`, and of the exercise's arguments."""

from typing import Any

import numpy as np

from minirnn.exercises import steps, through_time
from minirnn.exercises.steps import Made
from minirnn.exercises.through_time import ELMAN, LSTM, back
from minirnn.textbook.reading import Array

unroll, truncated, masked_forward = through_time.unrolled, through_time.truncated, through_time.masked_forward


def column(m: Made, x_t: Array, h_prev: Array, W_xh: Array, W_hh: Array, b: Array) -> Any:
    return step(m, x_t[None], h_prev[None], W_xh, W_hh, b)[0]


def step(m: Made, x_t: Array, h_prev: Array, *weights: Array) -> Array:
    ((h,), _) = steps.elman_forward(m, x_t, (h_prev,), *weights)
    return h


def neuron(m: Made, x_t: Array, y_prev: Array, w_x: Array, w_y: Array, b: Array) -> Any:
    return column(m, x_t, np.atleast_1d(y_prev), w_x[:, None], np.reshape(w_y, (1, 1)), np.atleast_1d(b))[0]


def concat(m: Made, x_t: Array, h_prev: Array, W: Array, b: Array) -> Array:
    if m("[h x] where W has x's rows on top"):
        z = np.hstack([h_prev, x_t]) @ W + b
        return np.tanh(z)
    D = x_t.shape[1]
    return step(m, x_t, h_prev, W[:D], W[D:], b)


def count(m: Made, inputs: int, n: int, p: int, bias: bool) -> tuple[int, int, int]:
    b = n * bias * (not m("b left out")) * (2 if m("two biases where the textbook has one") else 1)
    square = {"W_hh has n·m entries": n * inputs, "W_hh left out": 0, "W_hh: each neuron hears itself alone": n}
    recurrent = square.get(m.first(square), n * n)
    block = n * inputs + recurrent + b
    head = 0 if m("the head left out") else p * n + p * bias * (not m("b_y left out"))
    if bias and m("bias counted as one number"):
        block, head = block - b + 1, head - p + 1
    if not bias and m("biases counted that are not there"):
        block, head = block + n, head + p
    lstm = 3 if m("the LSTM's candidate is not counted") else 4
    gru = 2 if m("the GRU's candidate is not counted") else 3
    extra = n * bias * (not m("b_hn left out"))
    if m("the head once for each gate"):
        return block + head, lstm * (block + head), gru * (block + head) + extra
    return block + head, lstm * block + head, gru * block + extra + head


def step_backward(m: Made, dh: Array, x_t: Array, h_prev: Array, *weights: Array) -> tuple[Any, ...]:
    new, cache = steps.elman_forward(m, x_t, (h_prev,), *weights)
    dx, (dh_prev,), dW = steps.elman_backward(m, (dh,), x_t, (h_prev,), new, cache, *weights)
    return _means(m, (dx, dh_prev), dW)


def lstm_step_backward(
    m: Made, dh: Array, dc: Array, x_t: Array, h: Array, c: Array, *weights: Array
) -> tuple[Any, ...]:
    new, cache = steps.lstm_forward(m, x_t, (h, c), *weights)
    dx, (dh_prev, dc_prev), dW = steps.lstm_backward(m, (dh, dc), x_t, (h, c), new, cache, *weights)
    return _means(m, (dx, dh_prev, dc_prev), dW)


def gru_step_backward(m: Made, dh: Array, x_t: Array, h_prev: Array, *weights: Array) -> tuple[Any, ...]:
    new, cache = steps.gru_forward(m, x_t, (h_prev,), *weights)
    dx, (dh_prev,), dW = steps.gru_backward(m, (dh,), x_t, (h_prev,), new, cache, *weights)
    return _means(m, (dx, dh_prev), dW)


def _means(m: Made, states: tuple[Array, ...], dW: list[Array]) -> tuple[Array, ...]:
    N, found = len(states[0]), (*states, *dW)
    ways = {"(everything)": found, "(dW and db)": dW, "(dW)": [d for d in dW if d.ndim > 1]}
    made = m.first([f"mean for sum over rows {way}" for way in ways]).removeprefix("mean for sum over rows ")
    return tuple(d / N if any(d is of for of in ways.get(made, ())) else d for d in found)


def bptt(m: Made, x: Array, h0: Array, W_xh: Array, W_hh: Array, b: Array, *rest: Array) -> tuple[Any, ...]:
    dhs, *final = rest
    dx, (dh0,), dW = back(m, ELMAN, x, (h0,), (W_xh, W_hh, b), dhs, final or (None,))
    return dx, dh0, *dW


bptt_final = bptt


def last_step_loss(m: Made, x: Array, h0: Array, W_xh: Array, W_hh: Array, b: Array, dh_T: Array) -> tuple[Any, ...]:
    return bptt(m, x, h0, W_xh, W_hh, b, np.zeros((len(x), *dh_T.shape)), dh_T)


def masked_backward(m: Made, x: Array, lengths: Array, h0: Array, *rest: Array) -> tuple[Any, ...]:
    *weights, dhs, d_final = rest
    dx, (dh0,), dW = back(m, ELMAN, x, (h0,), tuple(weights), dhs, (d_final,), lengths)
    return dx, dh0, *dW


def lstm_step(m: Made, x_t: Array, h: Array, c: Array, *weights: Array) -> tuple[Array, ...]:
    return steps.lstm_forward(m, x_t, (h, c), *weights)[0]


def gru_step(m: Made, x_t: Array, h_prev: Array, W_xh: Array, W_hh: Array, b: Array, b_hn: Array) -> Array:
    return steps.gru_forward(m, x_t, (h_prev,), W_xh, W_hh, b, b_hn)[0][0]


def lstm_bptt(m: Made, x: Array, h0: Array, c0: Array, *rest: Array) -> tuple[Any, ...]:
    *weights, dhs, d_final_h, d_final_c = rest
    dx, (dh0, dc0), dW = back(m, LSTM, x, (h0, c0), tuple(weights), dhs, (d_final_h, d_final_c))
    return dx, dh0, dc0, *dW


def clip(m: Made, g1: Array, g2: Array, g3: Array, max_norm: float) -> list[Array]:
    gs = [g1, g2, g3]
    norms = [float(np.sqrt((g**2).sum())) for g in gs]
    whole = float(np.sqrt(sum(n**2 for n in norms)))
    entries = sum(g.size for g in gs)
    other = {
        "the norm without its root": whole**2,
        "the squared norm squared once more": whole**4,
        "the squared norm squared once more#then the root": float(np.sqrt(sum(n**4 for n in norms))),
        "a norm that is not the Euclidean one (the sum of |g|)": float(sum(np.abs(g).sum() for g in gs)),
        "a norm that is not the Euclidean one (the largest |g|)": max(float(np.abs(g).max()) for g in gs),
        "the arrays' norms added up": sum(norms),
        "the root of the mean square for the norm": whole / entries**0.5,
        "one array's norm for all (g1)": norms[0],
        "one array's norm for all (g2)": norms[1],
        "one array's norm for all (g3)": norms[2],
        "one array's norm for all (the largest)": max(norms),
    }
    norm = other.get(m.first(other), whole)
    scale = max_norm / norm if norm > max_norm else 1.0
    if m("small gradients are blown up to the norm"):
        scale = max_norm / norm
    if (m("scaled to norm 1, not to max_norm") and norm > max_norm) or m("scaled to norm 1, not to max_norm#always"):
        scale = 1 / norm
    if m("multiplied by max_norm, not divided by the norm") and norm > max_norm:
        scale = max_norm
    if m("each array has its own norm"):
        return [g * min(1.0, max_norm / n) for g, n in zip(gs, norms, strict=True)]
    if m("each entry is cut, not the norm"):
        return [np.clip(g, -max_norm, max_norm) for g in gs]
    if m("clip(g, +v, −v): every entry becomes the bound"):
        return [np.full_like(g, -max_norm) for g in gs]
    if m("clip(g, +v, −v): every entry becomes the bound#above"):
        return [np.full_like(g, max_norm) for g in gs]
    if m("each entry is cut, not the norm#above alone"):
        return [np.minimum(g, max_norm) for g in gs]
    return gs if m("nothing is clipped") else [g * scale for g in gs]


def baseline(m: Made, values: Array, marks: Array) -> tuple[Array, Any]:
    axis = 1 if m("summed over the rows, not over the steps") else 0
    y = (values * marks).mean(axis) if m("the mean of the marked numbers, not the sum") else (values * marks).sum(axis)
    y = values.sum(axis=0) if m("the marks are not used") else y
    answer = {"always answering 0": 0.0, "always answering 1/2": 0.5, "answering the batch's own mean": y.mean()}
    errors = y - answer.get(m.first(answer), 1.0)
    mse = {
        "a root where there is none": np.sqrt((errors**2).mean()),
        "the error is not squared": np.abs(errors).mean(),
        "the sum of the squares, not the mean": (errors**2).sum(),
        "half the squared error": (errors**2).mean() / 2,
    }
    return y, mse.get(m.first(mse), (errors**2).mean())


def jacobian(m: Made, x: Array, h0: Array, W_xh: Array, W_hh: Array, b: Array) -> tuple[Array, Array]:
    run = through_time.forward(m, ELMAN, x[:, None], (h0[None],), (W_xh, W_hh, b))
    P, norms, T = np.eye(len(h0)), [], len(x)
    W = W_hh if m("W_hh for W_hhᵀ") else W_hh.T
    for t in range(1, T + 1) if m(_ORDER + "#from the front") else range(T, 0, -1):
        h = (run.before if m("φ′ of H_{t-1} for that of H_t") else run.after)[t - 1][0][0]
        slopes = np.ones_like(h) if m("φ′ left out") else 1 - np.tanh(h) ** 2 if m(_AGAIN) else 1 - h**2
        step = W * slopes if m("φ′ on the wrong side of W_hh") else slopes[:, None] * W
        P = step if m("one step's Jacobian, not the product") else step @ P if m(_ORDER) else P @ step
        norms.append((np.linalg.norm(P), np.linalg.norm(P, 2), np.abs(np.linalg.eigvals(P)).max(), np.abs(P).max()))
    others = {"Frobenius norm for the largest singular value": 0, "eigenvalue for singular value": 2}
    chosen = [n[others.get(m.first(others), 1)] for n in norms]
    in_time = chosen if m("the time axis runs backwards") else chosen[::-1]
    return P.T if m("the Jacobian transposed") else P, np.array(in_time)


_AGAIN, _ORDER = "φ′ of an output that is activated again", "the product in the wrong order"


def tape(m: Made, ops: list[tuple[Any, ...]], v: Array) -> Array:
    g = np.zeros_like(v)
    g[-1] = 0.0 if m("the last value's own gradient is not 1") else 1.0
    assigned, own = m("assigned where gradients add up"), m("each factor gets itself")
    forwards, left_out, again = m("the tape is read from its beginning"), m("φ′ left out"), m(_AGAIN)
    once = m("a value used twice by one op counts once")
    for k in range(len(ops)) if forwards else range(len(ops) - 1, -1, -1):
        op, *inputs = ops[k]
        for place, i in enumerate(inputs[: 1 if once and len(set(inputs)) < len(inputs) else None]):
            y = np.tanh(v[k]) if again else v[k]
            slopes = {"given": 0.0, "add": 1.0, "mul": v[inputs[place if own else place - 1]] if inputs else 0.0}
            slope = slopes.get(op, 1.0 if left_out else 1 - y**2)
            g[i] = g[k] * slope + (0.0 if assigned else g[i])
    return g
