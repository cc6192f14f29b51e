"""Chapter 1: one recurrent neuron, and what it means to unroll it through time.

Note 003, Recurrent neurons (p. 381), section 1, equation 14-1 and figure 14-1:

    y_t = φ(⟨x_t, w_x⟩ + y_{t-1} w_y + b)

The neuron hears its inputs x_t and its own last output y_{t-1}. That output is all the memory it has.
"""

import numpy as np

from minirnn import textbook

# k = 2 inputs over T = 6 steps: a tap on the first input, then silence
x = np.zeros((6, 2))
x[0] = [1.0, 0.0]
w_x, b, y_0 = np.array([1.0, -0.5]), 0.0, 0.0

print("One step at a time, by hand (φ = tanh, w_y = 0.9):")
y = y_0
for t, x_t in enumerate(x, start=1):
    z = np.inner(x_t, w_x) + y * 0.9 + b
    print(f"  t={t}  ⟨x_t, w_x⟩ = {np.inner(x_t, w_x):4.1f}   y_(t-1) w_y = {y * 0.9:5.3f}   y_t = {np.tanh(z):5.3f}")
    y = np.tanh(z)
by_hand = y

print("\nThe loop is called unrolling: the same w_x, w_y, b at every step (figure 14-1, right):")
for w_y in (0.0, 0.5, 0.9, -0.9):
    outputs = textbook.unroll(textbook.neuron_step, x, y_0, w_x, w_y, b)
    print(f"  w_y = {w_y:4.1f}   y = {np.array2string(outputs, precision=3, suppress_small=True, floatmode='fixed')}")
    if w_y == 0.0:
        assert (outputs[1:] == 0.0).all()  # without the connection back, the tap is forgotten at once
    if w_y == 0.9:
        assert abs(outputs[-1] - by_hand) < 1e-12
        assert (np.diff(outputs) < 0.0).all()
        assert outputs[-1] > 0.25  # five steps later the neuron still knows of the tap
    if w_y < 0.0:
        assert (outputs[:-1] * outputs[1:] < 0.0).all()

print("\nw_y = 0 has no memory, 0.9 forgets slowly, a negative w_y remembers with alternating sign.")
