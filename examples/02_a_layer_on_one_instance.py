"""Chapter 2: a layer of recurrent neurons, fed with one instance.

Note 003, Recurrent neurons (p. 381), section 2 and figure 14-2, with its l = 5 neurons:

    y_t = φ(W_xᵀ x_t + W_yᵀ y_{t-1} + b)

Every neuron hears the input and the last outputs of *all* neurons. The neurons' weight vectors are the columns of W_x
and W_y, which is why the matrices are transposed when they multiply a column vector.
"""

import numpy as np

import minirnn as mr
from minirnn import textbook

rng = np.random.default_rng(2)
k, l, T = 3, 5, 4  # noqa: E741 (the note's letters)
x, y_0 = rng.normal(size=(T, k)), rng.normal(size=l)
W_x, W_y, b = rng.normal(size=(k, l)), rng.normal(size=(l, l)), rng.normal(size=l)

print(f"x_t {x[0].shape}   y_(t-1) {y_0.shape}   W_x {W_x.shape}   W_y {W_y.shape}   b {b.shape}")
print(f"W_xᵀ x_t is {W_x.T.shape} times {x[0].shape}, which gives {(W_x.T @ x[0]).shape}: one number a neuron.\n")

y = textbook.layer_step_instance(x[0], y_0, W_x, W_y, b)
print("The layer at t = 1, all neurons at once and one by one:")
for j in range(l):
    y_j = textbook.neuron_step(x[0], y_0, W_x[:, j], W_y[:, j], b[j])
    print(f"  neuron {j + 1}:  layer {y[j]: .6f}   tanh(⟨x, w_x{j + 1}⟩ + ⟨y, w_y{j + 1}⟩ + b{j + 1}) = {y_j: .6f}")
    assert abs(y[j] - y_j) < 1e-12

print("\nThe layer unrolled through time (a row is a step, a column is a neuron):")
by_the_book = textbook.unroll(textbook.layer_step_instance, x, y_0, W_x, W_y, b)
print(np.array2string(by_the_book, precision=3, suppress_small=True))
assert by_the_book.shape == (T, l)

# Neighbours are heard one step late: move neuron 1's initial output, and at t = 1 all five answers have moved.
nudged = y_0.copy()
nudged[0] += 0.1
moved = textbook.layer_step_instance(x[0], nudged, W_x, W_y, b) != y
print(f"After a nudge to neuron 1 at t = 0, {moved.sum()} of {l} neurons give another output at t = 1.")
assert moved.all()

# In minirnn's names. One instance is a mini-batch of one: x[:, None] is (T, N=1, D), y_0[None] is (N=1, H).
layer = mr.RecurrentLayer(k, l, dtype=np.float64)
layer.load_state_dict({"W_xh": W_x, "W_hh": W_y, "b_h": b})
outputs, _ = layer(x[:, None], initial_state=y_0[None])
difference = np.abs(outputs.numpy()[:, 0] - by_the_book).max()
print(f"\nmr.RecurrentLayer({k}, {l}) with these weights: outputs {outputs.shape}, largest difference {difference:.0e}")
assert difference < 1e-12

state = y_0[None]
for x_t in x:
    state = layer.step(x_t[None], state)
print(f"Driven step by step with layer.step(x_t, state): {np.array2string(state.numpy()[0], precision=3)}")
assert np.abs(state.numpy()[0] - by_the_book[-1]).max() < 1e-12
