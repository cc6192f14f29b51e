# %% [markdown]
# # Chapter 6: why gradients vanish
#
# Chapter 5 carried a gradient back one step: dZ_{t+1} W_hhᵀ, with dZ = dH ⊙ (1 − H²). So each step back multiplies it
# by the step's Jacobian,
#
#     J_t = ∂H_t/∂H_{t-1} = diag(φ′(Z_t)) W_hhᵀ,     and over many steps:   dH_0 = dH_T J_T J_{T-1} … J_1
#
# A product of many numbers below 1 is next to nothing; of many above 1, huge. For matrices it is the same story, with
# one twist that is easily got wrong. (Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio 2013.)

# %%
import numpy as np

import minirnn as mr

# %% [markdown]
# ## One neuron: a product of numbers
# With H = 1 a step's factor is w · φ′. Below it is w alone (φ the identity), multiplied over the steps:

# %%
print(f"{'w':>5}" + "".join(f"{f'{k} steps':>12}" for k in (1, 5, 10, 20, 50)))
for w in (0.5, 0.9, 1.0, 1.1, 1.5):
    print(f"{w:5}" + "".join(f"{w**k:12.3g}" for k in (1, 5, 10, 20, 50)))

# %% [markdown]
# Only w = 1 keeps it. tanh makes it smaller still, for tanh′ = 1 − tanh² is 1 at 0 and less elsewhere: of the gradient
# that w = 1.1 would let explode, a neuron that is at work leaves little.

# %%
rng = np.random.default_rng(6)
x = rng.normal(size=(50, 1, 1))
for w in (0.9, 1.1, 1.5):
    neuron = mr.RecurrentLayer(1, 1, dtype=np.float64)
    neuron.load_state_dict({"W_xh": [[1.0]], "W_hh": [[w]], "b_h": [0.0]})
    trace = mr.bptt.trace(neuron, x, lambda outputs: outputs[-1].sum())
    factors = [trace.jacobian(t, t - 1).item() for t in range(49, 29, -1)]
    print(f"w = {w}, tanh: the last factors {np.round(factors[:5], 2)}, the product of 20 {np.prod(factors):.1e}")
    assert np.prod(factors) < w**20

# %% [markdown]
# ## A layer: a product of matrices
# How much a matrix can stretch a vector is its largest singular value σ₁. Here is the twist: σ₁ of every single step
# may be *above* 1, and the product vanishes all the same, because no vector is stretched by all of them in turn. So do
# not look at one step's bounds; look at the product.

# %%
T, N, D, H = 50, 1, 2, 32
x = rng.normal(size=(T, N, D))
layer = mr.RecurrentLayer(D, H, recurrent_initializer="glorot", dtype=np.float64, rng=9)
trace = mr.bptt.trace(layer, x, lambda outputs: (outputs[-1] ** 2).sum())

print("steps back   σ₁ of that step   σ₁ of the product so far")
singles, products = [], []
for k in range(T - 2, -1, -1):
    singles.append(trace.singular_values(k + 1, k)[0, 0])
    products.append(trace.singular_values(T - 1, k)[0, 0])
    if len(singles) in (1, 2, 3, 5, 10, 20, 30, 40, 49):
        print(f"{len(singles):>10}   {singles[-1]:15.2f}   {products[-1]:24.1e}")
assert min(singles) > 1.0
assert products[-1] < 1e-4

# %% [markdown]
# In the long run a product grows or shrinks by the spectral radius ρ, the largest |eigenvalue|: that of W_hh here,
# times what tanh′ leaves of it. Two statements are theorems, and the rest is a rule of thumb:
#
# - σ₁(W_hh) · max φ′ < 1: the gradient **must** vanish.
# - σ₁(W_hh) · max φ′ > 1: it **may** explode, but need not.

# %%
rho, sigma = np.abs(np.linalg.eigvals(layer.W_hh.numpy())).max(), np.linalg.norm(layer.W_hh.numpy(), 2)
rate = products[-1] ** (1 / len(products))
print(f"ρ(W_hh) = {rho:.2f}   σ₁(W_hh) = {sigma:.2f}   tanh′ on average {trace.slopes.mean():.2f}")
print(f"a step multiplied by {rate:.2f} on average; ρ · tanh′ = {rho * trace.slopes.mean():.2f}")
assert rate < 1 < sigma

# %% [markdown]
# ## Look at it
# The same run as a page. Step back with the slider and watch ‖dL/dh_t‖ fall, in a scale that counts powers of ten; the
# matrix below shows which step's loss still reaches which step's weights: only those near the diagonal.

# %%
trace

# %% [markdown]
# ## What can be done
# Keep the factor at 1. Chapter 7 does it by the start (W_hh = I and ReLU, whose slope is exactly 1 where it is on),
# chapter 8 by another cell (an LSTM's c goes from step to step past every W_hh), and chapter 11 measures all three.
#
# ## Now you

# %%
print(mr.exercises.EXERCISES["jacobian"])
