"""Right solutions pass, in whatever style, and are right: as the textbook says, and central differences."""

import numpy as np
import pytest
from learners import SOURCES, learned, sigmoid

import minirnn as mr
from minirnn import counting, textbook
from minirnn.exercises import EXERCISES, check
from minirnn.textbook.tape import Tape


def test_each_exercise_has_all_its_texts():
    for name, exercise in EXERCISES.items():
        assert len(exercise.hints) == 3
        compile(str(exercise), name, "exec")
        assert exercise.equation
        assert exercise.source
    assert list(EXERCISES)[:3] == ["neuron", "column", "step"]
    assert set(SOURCES) == set(EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_a_right_solution_passes_on_all_inputs_and_in_any_dress(name):
    solution = learned(name)

    def dressed(cast, back):
        def call(*arguments):
            found = solution(*(cast(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arguments))
            return type(found)(map(back, found)) if isinstance(found, tuple) else back(found)

        return call

    dresses = [(np.asarray, np.asarray)] * 8
    dresses += [
        (lambda a: a.astype(np.float32), lambda r: r),
        (np.asfortranarray, lambda r: np.asarray(r).tolist()),
        (lambda a: a, lambda r: mr.Tensor(np.asarray(r, float))),
    ]
    for cast, back in dresses:
        result = check(name, dressed(cast, back))
        assert result.passed, result
        assert (result.mistake, bool(result)) == (None, True)


# --- other ways ------------------------------------------------------------------------------------------------------


def by_entries(x_t, h_prev, W_xh, W_hh, b):
    h = []
    for n in range(len(x_t)):
        h.append([])
        for j in range(len(b)):
            z = b[j]
            z += sum(x_t[n, d] * W_xh[d, j] for d in range(x_t.shape[1]))
            z += sum(h_prev[n, k] * W_hh[k, j] for k in range(len(b)))
            h[n].append(np.sinh(z) / np.cosh(z))
    return h


def in_columns(x, h0, W_xh, W_hh, b, dhs):
    grads = [np.zeros_like(W_xh.T), np.zeros_like(W_hh.T), np.zeros_like(b)]
    dx, dh0 = np.zeros_like(x), np.zeros_like(h0)
    for n in range(len(h0)):  # one instance after the other, all as column vectors
        hs = [h0[n]]
        for t in range(len(x)):
            hs.append(np.tanh(W_xh.T @ x[t, n] + W_hh.T @ hs[-1] + b))
        dz = np.zeros_like(b)
        for t in range(len(x), 0, -1):
            dz = (dhs[t - 1, n] + W_hh @ dz) * (1 - hs[t]) * (1 + hs[t])
            dx[t - 1, n] = W_xh @ dz
            grads[0] += np.outer(dz, x[t - 1, n])
            grads[1] += np.outer(dz, hs[t - 1])
            grads[2] += dz
        dh0[n] = W_hh @ dz
    return dx, dh0, grads[0].T, grads[1].T, grads[2]


def with_einsum(x, h0, W_xh, W_hh, b, dhs):
    hs = textbook.unroll(textbook.layer_step_batch, x, h0, W_xh, W_hh, b)
    slopes, dz, later = 1 / np.cosh(np.arctanh(hs)) ** 2, np.zeros_like(hs), 0.0
    for t in range(len(x))[::-1]:
        dz[t] = slopes[t] * (dhs[t] + later)
        later = np.einsum("nk,jk->nj", dz[t], W_hh)
    before = np.concatenate([h0[None], hs[:-1]])
    products = np.einsum("tnd,tnh->dh", x, dz), np.einsum("tnk,tnh->kh", before, dz), np.einsum("tnh->h", dz)
    return [np.einsum("tnh,dh->tnd", dz, W_xh), later, *products]


def by_autograd(x, h0, W_xh, W_hh, b, dhs, d_final=0.0, lengths=None):
    tensors = [mr.Tensor(a, requires_grad=True) for a in (x, h0, W_xh, W_hh, b)]
    h, loss = tensors[1], 0.0
    for t in range(len(x)):
        new = mr.tanh(tensors[0][t] @ tensors[2] + h @ tensors[3] + tensors[4])
        live = np.ones((len(h0), 1), bool) if lengths is None else (t < lengths)[:, None]
        h = mr.where(live, new, h)
        loss = loss + (mr.where(live, new, 0.0) * np.where(live, dhs[t], 0.0)).sum()
    (loss + (h * d_final).sum()).backward()
    return tuple(tensor.grad for tensor in tensors)


def concatenated(x, h0, W_xh, W_hh, b, dhs, d_final):
    W, D, d, xhs = np.vstack([W_xh, W_hh, b]), x.shape[2], d_final, []
    h, ones = h0, np.ones((len(h0), 1))
    for x_t in x:
        xhs.append(np.hstack([x_t, h, ones]))
        h = np.tanh(xhs[-1] @ W)
    dW, dxs = 0, []
    for xh, dh in zip(xhs[::-1], dhs[::-1], strict=True):
        dz = (dh + d) * (1 - np.tanh(xh @ W) ** 2)
        dW = dW + xh.T @ dz
        both = dz @ W.T
        dxs.insert(0, both[:, :D])
        d = both[:, D:-1]
    return dxs, d, dW[:D], dW[D:-1], dW[-1]


def by_credit(x, h0, W_xh, W_hh, b, dhs, k1, k2):
    layer = mr.RecurrentLayer(*W_xh.shape, dtype=np.float64)
    layer.load_state_dict({"W_xh": W_xh, "W_hh": W_hh, "b_h": b})
    cut = mr.bptt.truncated_gradient(layer, x, lambda outputs: (outputs * dhs).sum(axis=(1, 2)), k1, k2, h0)
    return cut["W_xh"], cut["W_hh"], cut["b_h"]


def gates_apart(x_t, h_prev, c_prev, W_xh, W_hh, b):
    H = h_prev.shape[1]
    z = {g: np.zeros_like(h_prev) for g in "ifgo"}
    for k, g in enumerate("ifgo"):
        block = slice(k * H, (k + 1) * H)
        z[g] += x_t @ W_xh[:, block] + h_prev @ W_hh[:, block] + b[block]
    c = c_prev * sigmoid(z["f"])
    c += sigmoid(z["i"]) * np.tanh(z["g"])
    return np.tanh(c) * sigmoid(z["o"]), c


def clipped_in_copies(g1, g2, g3, max_norm):
    flat = np.concatenate([g1.ravel(), g2.ravel(), g3.ravel()])
    norm = np.linalg.norm(flat)
    if norm <= max_norm:
        return g1, g2, g3
    scale = max_norm / (norm + 1e-6)  # as torch does
    return g1 * scale, g2 * scale, g3 * scale


def on_the_tape(ops, v):
    tape = Tape()
    made = []
    for (op, *inputs), value in zip(ops, v, strict=True):
        made.append(tape.given(value) if op == "given" else tape.do(op, *(made[i] for i in inputs)))
    return [float(g) for g in tape.gradients(made[-1], made)]


OTHERS = {
    "neuron by the textbook": ("neuron", textbook.neuron_step),
    "column by the textbook": ("column", textbook.layer_step_instance),
    "step by entries, lists": ("step", by_entries),
    "concat by the textbook": ("concat", textbook.layer_step_batch_concat),
    "count by minirnn": (
        "count",
        lambda m, n, p, bias: [f(m, n, p, bias=bias).total for f in (counting.elman, counting.lstm, counting.gru)],
    ),
    "unroll, list of outputs": ("unroll", lambda *a: list(textbook.unroll(textbook.layer_step_batch, *a))),
    "bptt in columns": ("bptt", in_columns),
    "bptt, einsum": ("bptt", with_einsum),
    "bptt by autograd": ("bptt", by_autograd),
    "bptt by the textbook": ("bptt", textbook.unroll_backward),
    "bptt_final concatenated": ("bptt_final", concatenated),
    "bptt_final by autograd": ("bptt_final", by_autograd),
    "last step by autograd": (
        "last_step_loss",
        lambda *a: by_autograd(*a[:5], np.zeros((len(a[0]), *a[5].shape)), a[5]),
    ),
    "truncated by credit": ("truncated", by_credit),
    "clip, untouched where short": ("clip", clipped_in_copies),
    "lstm_step, gates apart": ("lstm_step", gates_apart),
    "lstm_bptt by the textbook": ("lstm_bptt", textbook.unroll_lstm_backward),
    "lstm_step_backward by the textbook": (
        "lstm_step_backward",
        lambda dh, dc, x, *a: (lambda g: (g.x[0], *g[1:]))(
            textbook.unroll_lstm_backward(x[None], *a, 0 * dh[None], dh, dc)
        ),
    ),
    "gru_step by the textbook": ("gru_step", textbook.gru_step),
    "gru_step_backward by the textbook": (
        "gru_step_backward",
        lambda dh, x, *a: (lambda g: (g.x[0], *g[1:]))(textbook.unroll_gru_backward(x[None], *a, dh[None])),
    ),
    "masked_backward by autograd": (
        "masked_backward",
        lambda x, lengths, h0, W_xh, W_hh, b, dhs, d: by_autograd(x, h0, W_xh, W_hh, b, dhs, d, lengths),
    ),
    "tape by the textbook": ("tape", on_the_tape),
}


@pytest.mark.parametrize(("name", "function"), [*OTHERS.values()], ids=list(OTHERS))
def test_a_right_solution_passes_in_another_order_or_style(name, function):
    result = check(name, function)
    assert result.passed, result
