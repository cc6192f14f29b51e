"""Chapter 2: a layer of recurrent neurons, fed with one instance.

Note 003, Recurrent neurons (p. 381), section 2 and figure 14-2, with its l = 5 neurons:

    y_t = φ(W_xᵀ x_t + W_yᵀ y_{t-1} + b)

Every neuron hears the input and the last outputs of *all* neurons. The neurons' weight vectors are the columns of W_x
and W_y, which is why the matrices are transposed when they multiply a column vector.
"""

import numpy as np

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
    print(
        f"  neuron {j + 1}:  layer {y[j]: .6f}   ⟨x, w_x{j + 1}⟩ + ⟨y, w_y{j + 1}⟩ + b{j + 1} through tanh {y_j: .6f}"
    )
    assert abs(y[j] - y_j) < 1e-12

print("\nThe layer unrolled through time (a row is a step, a column is a neuron):")
outputs = textbook.unroll(textbook.layer_step_instance, x, y_0, W_x, W_y, b)
print(np.array2string(outputs, precision=3, suppress_small=True))
assert outputs.shape == (T, l)

# Neighbours are heard one step late: move neuron 1's initial output, and at t = 1 all five answers have moved.
nudged = y_0.copy()
nudged[0] += 0.1
moved = textbook.layer_step_instance(x[0], nudged, W_x, W_y, b) != y
print(f"\nAfter a nudge to neuron 1 at t = 0, {moved.sum()} of {l} neurons give another output at t = 1.")
assert moved.all()
