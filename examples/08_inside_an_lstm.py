# %% [markdown]
# # Chapter 8: the inside of an LSTM, and of a GRU
#
# An Elman layer multiplies its whole state by W_hh at every step, and chapter 6 showed what becomes of the gradient. An
# LSTM (Hochreiter & Schmidhuber 1997; the forget gate by Gers, Schmidhuber & Cummins 2000) keeps a second array, the
# cell state C_t, that no matrix touches on its way from step to step. *Gates*, numbers between 0 and 1, say what is
# kept, what is written, and what is shown:
#
#     [Z_i Z_f Z_g Z_o] = X_t W_xh + H_{t-1} W_hh + b_h       one product for all four: W_xh (D, 4H), W_hh (H, 4H)
#     i = σ(Z_i)   how much is written       f = σ(Z_f)   how much is kept
#     g = tanh(Z_g)   what is written        o = σ(Z_o)   how much is shown
#     C_t = f ⊙ C_{t-1} + i ⊙ g
#     H_t = o ⊙ tanh(C_t)
#
# σ is the sigmoid, 1/(1 + exp(−z)), and ⊙ multiplies entry by entry.

# %%
import numpy as np

import minirnn as mr

N, D, H = 2, 3, 4
lstm = mr.LSTMLayer(D, H, dtype=np.float64, rng=8)
lstm

# %% [markdown]
# ## One step by hand
# In the drawing above, "inside a step", follow C from left to right: it is multiplied by f, something is added, and it
# leaves. The box with both products feeds the four gates. Here is the same, line by line:

# %%
rng = np.random.default_rng(8)
x_t, h, c = rng.normal(size=(N, D)), rng.normal(size=(N, H)), rng.normal(size=(N, H))
W_xh, W_hh, b_h = (p.numpy() for p in lstm.parameters())


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


z_i, z_f, z_g, z_o = np.split(x_t @ W_xh + h @ W_hh + b_h, 4, axis=1)
i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
c_new = f * c + i * g
h_new = o * np.tanh(c_new)

state = lstm.step(x_t, (h, c))
print("row 0, neuron by neuron:")
for name, values in {"c before": c, "f": f, "i": i, "g": g, "c after": c_new, "o": o, "h after": h_new}.items():
    print(f"  {name:<9}" + "".join(f"{v:8.3f}" for v in values[0]))
difference = max(np.abs(state.h.numpy() - h_new).max(), np.abs(state.c.numpy() - c_new).max())
print(f"difference from lstm.step: {difference:.0e}")
assert difference < 1e-12

# %% [markdown]
# ## The way back
# A derivative follows the same lines backwards. That of σ is σ ⊙ (1 − σ), that of tanh is 1 − tanh²; a ⊙ passes the
# gradient on to each side, times the other side; a + passes it on to both. Read off the drawing, these are all of them:

# %%
text = mr.bptt.explain(lstm, rng.normal(size=(3, N, D)), t=1)
print(*[line for line in text.splitlines() if line.startswith(("dL/dC_t =", "dL/dZ_", "from ", "to C"))], sep="\n")

# %% [markdown]
# ## Why it remembers
# Of the ways from C_t back to C_{t-1}, the direct one has the factor f, entry by entry, and no W_hh. Over k steps that
# is a product of k gates: close to 1 as long as they are open. So the bias of f is a choice of how long to remember
# (Tallec & Ollivier 2018), and `forget_bias=` sets where it starts:

# %%
print("forget_bias   f if all else is 0   after 10 steps   after 50")
for bias in (-1.0, 0.0, 1.0, 3.0, 5.0):
    kept = sigmoid(bias)
    print(f"{bias:11}   {kept:18.3f}   {kept**10:14.3g}   {kept**50:8.3g}")

T = 50
x = rng.normal(size=(T, N, D))
print("\nand in a layer with random weights, H_t and C_t together, over 49 steps:")
for bias in (0.0, 5.0):
    layer = mr.LSTMLayer(D, H, forget_bias=bias, dtype=np.float64, rng=8)
    trace = mr.bptt.trace(layer, x, lambda outputs: outputs[-1].sum())
    left = trace.singular_values(T - 1, 0)[0, 0]
    print(f"  forget_bias = {bias}: the product of Jacobians stretches by at most {left:.1e}")
    assert (left > 0.1) == (bias == 5.0)

# %% [markdown]
# ## A GRU
# The gated recurrent unit (Cho et al. 2014) has no second array: one gate, z, keeps the old state and lets in the new
# by turns; r says how much of the old state the candidate n hears.
#
#     r = σ(…)   z = σ(…)   n = tanh(X_t W_xn + b_n + r ⊙ (H_{t-1} W_hn + b_hn))
#     H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}
#
# r stands outside the product, so its bias b_hn cannot be added to b_n: it is the one recurrent bias that has a place
# of its own. Some texts swap z and 1 − z, others take r into the product (`reset_after=False`).

# %%
gru = mr.GRULayer(D, H, dtype=np.float64, rng=8)
for layer, formula, count in (
    (lstm, "4H(D+H+1)", 4 * H * (D + H + 1)),
    (gru, "3H(D+H+1) + H", 3 * H * (D + H + 1) + H),
):
    print(f"{layer.name}: {formula} = {count} parameters")
    assert layer.count_params() == count
gru

# %% [markdown]
# ## Now you
# The order of the gates is i, f, g, o here and in torch; Keras has i, f, c, o, and ONNX i, o, f, c. The check knows.

# %%
for name in ("lstm_step", "lstm_step_backward", "lstm_bptt", "gru_step", "gru_step_backward"):
    print(f"{name:<20}{mr.exercises.EXERCISES[name].title}")
print(f"\nThe first of them:\n\n{mr.exercises.EXERCISES['lstm_step']}")
