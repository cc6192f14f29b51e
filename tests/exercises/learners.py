"""Right solutions as learners write them, in plain text, so that a test can change a line of them."""

import numpy as np

SOURCES = {
    "neuron": """
def neuron(x_t, y_prev, w_x, w_y, b):
    return np.tanh(x_t @ w_x + y_prev * w_y + b)
""",
    "column": """
def column(x_t, h_prev, W_xh, W_hh, b):
    return np.tanh(W_xh.T @ x_t + W_hh.T @ h_prev + b)
""",
    "step": """
def step(x_t, h_prev, W_xh, W_hh, b):
    return np.tanh(x_t @ W_xh + h_prev @ W_hh + b)
""",
    "concat": """
def concat(x_t, h_prev, W, b):
    return np.tanh(np.hstack([x_t, h_prev]) @ W + b)
""",
    "count": """
def count(m, n, p, bias):
    block = n * m + n * n + (n if bias else 0)
    head = p * n + (p if bias else 0)
    return block + head, 4 * block + head, 3 * block + (n if bias else 0) + head
""",
    "unroll": """
def unroll(x, h0, W_xh, W_hh, b):
    h, hs = h0, []
    for x_t in x:
        h = np.tanh(x_t @ W_xh + h @ W_hh + b)
        hs.append(h)
    return np.array(hs)
""",
    "step_backward": """
def step_backward(dh, x_t, h_prev, W_xh, W_hh, b):
    z = x_t @ W_xh + h_prev @ W_hh + b
    h = np.tanh(z)
    dz = dh * (1 - h ** 2)
    return dz @ W_xh.T, dz @ W_hh.T, x_t.T @ dz, h_prev.T @ dz, dz.sum(axis=0)
""",
    "bptt": """
def bptt(x, h0, W_xh, W_hh, b, dhs):
    T, H = len(x), len(b)
    hs, zs = [h0], []
    for t in range(T):
        zs.append(x[t] @ W_xh + hs[t] @ W_hh + b)
        hs.append(np.tanh(zs[t]))
    dx, dW_xh, dW_hh, db = (np.zeros_like(a) for a in (x, W_xh, W_hh, b))
    carried = np.zeros_like(h0)
    for t in range(T - 1, -1, -1):
        h, h_prev = hs[t + 1], hs[t]
        dh = dhs[t] + carried
        dz = dh * (1 - h ** 2)
        dx[t] = dz @ W_xh.T
        dW_xh += x[t].T @ dz
        dW_hh += h_prev.T @ dz
        db += dz.sum(axis=0)
        carried = dz @ W_hh.T
    dh0 = carried
    return dx, dh0, dW_xh, dW_hh, db
""",
    "truncated": """
def truncated(x, h0, W_xh, W_hh, b, dhs, k1, k2):
    T = len(x)
    hs = [h0]
    for t in range(T):
        hs.append(np.tanh(x[t] @ W_xh + hs[t] @ W_hh + b))
    dW_xh, dW_hh, db = np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros_like(b)
    for a in range(0, T, k1):
        e = min(a + k1, T)
        dh = np.zeros_like(h0)
        for t in range(e - 1, max(e - k2, 0) - 1, -1):
            dh = dh + (dhs[t] if t >= a else 0)
            dz = dh * (1 - hs[t + 1] ** 2)
            dW_xh += x[t].T @ dz
            dW_hh += hs[t].T @ dz
            db += dz.sum(axis=0)
            dh = dz @ W_hh.T
    return dW_xh, dW_hh, db
""",
    "clip": """
def clip(g1, g2, g3, max_norm):
    gs = [g1, g2, g3]
    norm = np.sqrt(sum((g ** 2).sum() for g in gs))
    scale = max_norm / norm if norm > max_norm else 1.0
    return tuple(g * scale for g in gs)
""",
    "baseline": """
def baseline(values, marks):
    y = (values * marks).sum(axis=0)
    return y, ((y - 1) ** 2).mean()
""",
    "jacobian": """
def jacobian(x, h0, W_xh, W_hh, b):
    h, Js = h0, []
    for x_t in x:
        h = np.tanh(x_t @ W_xh + h @ W_hh + b)
        Js.append(np.diag(1 - h ** 2) @ W_hh.T)
    P, norms = np.eye(len(h0)), []
    for J in Js[::-1]:
        P = P @ J
        norms.append(np.linalg.norm(P, 2))
    return P, norms[::-1]
""",
    "lstm_step": """
def lstm_step(x_t, h_prev, c_prev, W_xh, W_hh, b):
    a_i, a_f, a_g, a_o = np.split(x_t @ W_xh + h_prev @ W_hh + b, 4, axis=1)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    c = f * c_prev + i * g
    h = o * np.tanh(c)
    return h, c
""",
    "lstm_step_backward": """
def lstm_step_backward(dh, dc, x_t, h_prev, c_prev, W_xh, W_hh, b):
    a_i, a_f, a_g, a_o = np.split(x_t @ W_xh + h_prev @ W_hh + b, 4, axis=1)
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    c = f * c_prev + i * g
    tc = np.tanh(c)
    do = dh * tc
    dct = dc + dh * o * (1 - tc ** 2)
    di, df, dg = dct * g, dct * c_prev, dct * i
    da_i = di * i * (1 - i)
    da_f = df * f * (1 - f)
    da_g = dg * (1 - g ** 2)
    da_o = do * o * (1 - o)
    da = np.hstack([da_i, da_f, da_g, da_o])
    return da @ W_xh.T, da @ W_hh.T, dct * f, x_t.T @ da, h_prev.T @ da, da.sum(axis=0)
""",
    "lstm_bptt": """
def lstm_bptt(x, h0, c0, W_xh, W_hh, b, dhs, d_final_h, d_final_c):
    T, H = len(x), h0.shape[1]
    hs, cs, gates = {-1: h0}, {-1: c0}, {}
    for t in range(T):
        a = x[t] @ W_xh + hs[t - 1] @ W_hh + b
        i, f, g, o = sigmoid(a[:, :H]), sigmoid(a[:, H:2*H]), np.tanh(a[:, 2*H:3*H]), sigmoid(a[:, 3*H:])
        gates[t] = i, f, g, o
        cs[t] = f * cs[t - 1] + i * g
        hs[t] = o * np.tanh(cs[t])
    dx, dW_xh, dW_hh, db = np.zeros_like(x), np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros_like(b)
    dh_next, dc_next = d_final_h, d_final_c
    for t in reversed(range(T)):
        i, f, g, o = gates[t]
        h_prev, c_prev, tc = hs[t - 1], cs[t - 1], np.tanh(cs[t])
        dh = dhs[t] + dh_next
        dc = dc_next + dh * o * (1 - tc * tc)
        di, df, dg, do = dc * g, dc * c_prev, dc * i, dh * tc
        da = np.hstack([di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)])
        dx[t] = da @ W_xh.T
        dW_xh += x[t].T @ da
        dW_hh += h_prev.T @ da
        db += da.sum(0)
        dh_next = da @ W_hh.T
        dc_next = dc * f
    return dx, dh_next, dc_next, dW_xh, dW_hh, db
""",
    "gru_step": """
def gru_step(x_t, h_prev, W_xh, W_hh, b, b_hn):
    H = h_prev.shape[1]
    gx, gh = x_t @ W_xh + b, h_prev @ W_hh
    r, z = sigmoid(gx[:, :H] + gh[:, :H]), sigmoid(gx[:, H:2*H] + gh[:, H:2*H])
    n = np.tanh(gx[:, 2*H:] + r * (gh[:, 2*H:] + b_hn))
    return (1 - z) * n + z * h_prev
""",
    "gru_step_backward": """
def gru_step_backward(dh, x_t, h_prev, W_xh, W_hh, b, b_hn):
    H = h_prev.shape[1]
    W_hr, W_hz, W_hn = W_hh[:, :H], W_hh[:, H:2*H], W_hh[:, 2*H:]
    gx = x_t @ W_xh + b
    r, z = sigmoid(gx[:, :H] + h_prev @ W_hr), sigmoid(gx[:, H:2*H] + h_prev @ W_hz)
    q = h_prev @ W_hn + b_hn
    n = np.tanh(gx[:, 2*H:] + r * q)
    dz, dn = dh * (h_prev - n), dh * (1 - z)
    da_n = dn * (1 - n ** 2)
    dq = da_n * r
    dr = da_n * q
    da_r = dr * r * (1 - r)
    da_z = dz * z * (1 - z)
    da = np.hstack([da_r, da_z, da_n])
    dh_prev = dh * z + da_r @ W_hr.T + da_z @ W_hz.T + dq @ W_hn.T
    dW_hh = np.hstack([h_prev.T @ da_r, h_prev.T @ da_z, h_prev.T @ dq])
    return da @ W_xh.T, dh_prev, x_t.T @ da, dW_hh, da.sum(axis=0), dq.sum(axis=0)
""",
    "masked_forward": """
def masked_forward(x, lengths, h0, W_xh, W_hh, b):
    h, hs = h0, []
    for t in range(len(x)):
        live = (t < lengths)[:, None]
        new = np.tanh(x[t] @ W_xh + h @ W_hh + b)
        h = np.where(live, new, h)
        hs.append(np.where(live, new, 0))
    return np.array(hs), h
""",
    "masked_backward": """
def masked_backward(x, lengths, h0, W_xh, W_hh, b, dhs, d_final):
    T, N, D = x.shape
    hs = [h0]
    for t in range(T):
        hs.append(np.tanh(x[t] @ W_xh + hs[t] @ W_hh + b))
    dx, dW_xh, dW_hh, db = np.zeros_like(x), np.zeros_like(W_xh), np.zeros_like(W_hh), np.zeros_like(b)
    carried = d_final
    for t in reversed(range(T)):
        live = (t < lengths)[:, None]
        dh = np.where(live, dhs[t] + carried, 0)
        dz = dh * (1 - hs[t + 1] ** 2)
        dx[t] = dz @ W_xh.T
        dW_xh += x[t].T @ dz
        dW_hh += hs[t].T @ dz
        db += dz.sum(axis=0)
        carried = np.where(live, dz @ W_hh.T, carried)
    return dx, carried, dW_xh, dW_hh, db
""",
    "tape": """
def tape(ops, v):
    g = np.zeros(len(v))
    g[-1] = 1
    for k in reversed(range(len(ops))):
        op, *args = ops[k]
        if op == "add":
            i, j = args
            g[i] += g[k]
            g[j] += g[k]
        elif op == "mul":
            i, j = args
            g[i] += g[k] * v[j]
            g[j] += g[k] * v[i]
        elif op == "tanh":
            g[args[0]] += g[k] * (1 - v[k] ** 2)
    return g
""",
}
SOURCES["bptt_final"] = (
    SOURCES["bptt"]
    .replace("bptt(", "bptt_final(")
    .replace("dhs)", "dhs, d_final)")
    .replace("np.zeros_like(h0)", "d_final")
)
SOURCES["last_step_loss"] = (
    SOURCES["bptt"].replace("bptt(", "last_step_loss(").replace("dhs)", "dh_T)").replace("np.zeros_like(h0)", "dh_T")
).replace("dhs[t] + carried", "carried")


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def learned(name, *changes):
    """Run the source, with each old text replaced by the new; return the function."""
    source = SOURCES[name]
    for old, new in changes:
        assert old in source, f"{name}: {old!r} is not there"
        source = source.replace(old, new)
    names = {"np": np, "sigmoid": sigmoid}
    exec(compile(source, f"<{name}>", "exec"), names)
    return names[name]
