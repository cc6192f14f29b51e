"""Chapter 1: one recurrent neuron, and what it means to unroll it through time.

Note 003, Recurrent neurons (p. 381), section 1, equation 14-1 and figure 14-1:

    y_t = φ(⟨x_t, w_x⟩ + y_{t-1} w_y + b)

The neuron hears its inputs x_t and its own last output y_{t-1}. That output is all the memory it has.
"""

import numpy as np

import minirnn as mr
from minirnn import textbook

# k = 2 inputs over T = 6 steps: a tap on the first input, then silence
x = np.zeros((6, 2))
x[0] = [1.0, 0.0]
w_x, b, y_0 = np.array([1.0, -0.5]), 0.0, 0.0

print("One step at a time, by hand (φ = tanh, w_y = 0.9):")
y, by_hand = y_0, []
for t, x_t in enumerate(x, start=1):
    z = np.inner(x_t, w_x) + y * 0.9 + b
    print(f"  t={t}  ⟨x_t, w_x⟩ = {np.inner(x_t, w_x):4.1f}   y_(t-1) w_y = {y * 0.9:5.3f}   y_t = {np.tanh(z):5.3f}")
    y = np.tanh(z)
    by_hand.append(y)

print("\nThe loop is called unrolling: the same w_x, w_y, b at every step (figure 14-1, right):")
for w_y in (0.0, 0.5, 0.9, -0.9):
    outputs = textbook.unroll(textbook.neuron_step, x, y_0, w_x, w_y, b)
    print(f"  w_y = {w_y:4.1f}   y = {np.array2string(outputs, precision=3, suppress_small=True, floatmode='fixed')}")
    if w_y == 0.0:
        assert (outputs[1:] == 0.0).all()  # without the connection back, the tap is forgotten at once
    if w_y == 0.9:
        assert np.abs(outputs - by_hand).max() < 1e-12
        assert (np.diff(outputs) < 0.0).all()
        assert outputs[-1] > 0.25  # five steps later the neuron still knows of the tap
    if w_y < 0.0:
        assert (outputs[:-1] * outputs[1:] < 0.0).all()
print("w_y = 0 has no memory, 0.9 forgets slowly, a negative w_y remembers with alternating sign.")

# A layer takes x as (T, N, D): steps, sequences side by side, inputs. Here one sequence, so N = 1: x[:, None].
layer = mr.RecurrentLayer(input_size=2, hidden_size=1, activation="tanh", dtype=np.float64)
layer.load_state_dict({"W_xh": w_x[:, None], "W_hh": [[0.9]], "b_h": [b]})
outputs, final_state = layer(x[:, None])

print("\nThe same neuron as a minirnn layer of one, W_xh (2, 1), W_hh (1, 1), b_h (1,):")
print(f"  outputs {outputs.shape}: {np.array2string(outputs.numpy().ravel(), precision=3, floatmode='fixed')}")
print(f"  final_state {final_state.shape}: {final_state.item():.3f}, the output of the last step")
assert np.abs(outputs.numpy()[:, 0, 0] - by_hand).max() < 1e-12
assert final_state.item() == outputs.numpy()[-1, 0, 0]

print("\nFour numbers are all it learns, however long the sequence:")
layer.summary()
assert layer.count_params() == 4
