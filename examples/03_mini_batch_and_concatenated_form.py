"""Chapter 3: a mini-batch in one go, and the concatenated form.

Note 003, Recurrent neurons (p. 381), section 3 and equation 14-2:

    Y_t = φ(X_t W_x + Y_{t-1} W_y + b) = φ([X_t Y_{t-1}] W + b)   with W_x stacked on top of W_y in W

Row i of X_t and Y_t belongs to instance i. As rows the instances stand on the left of the weights, and nothing is
transposed any more.
"""

import numpy as np

import minirnn as mr
from minirnn import textbook

rng = np.random.default_rng(3)
m, k, l, T = 4, 3, 5, 6  # noqa: E741 (the note's letters)
X, Y_0 = rng.normal(size=(T, m, k)), rng.normal(size=(m, l))
W_x, W_y, b = rng.normal(size=(k, l)), rng.normal(size=(l, l)), rng.normal(size=(1, l))
W = np.vstack([W_x, W_y])

print("note 003        minirnn               shape")
for theirs, ours, array in [
    ("X_t    (m, k)", "x[t]           (N, D)", X[0]),
    ("Y_t-1  (m, l)", "state          (N, H)", Y_0),
    ("W_x    (k, l)", "layer.W_xh     (D, H)", W_x),
    ("W_y    (l, l)", "layer.W_hh     (H, H)", W_y),
    ("b      (1, l)", "layer.b_h        (H,)", b),
    ("W    (k+l, l)", "layer.W      (D+H, H)", W),
]:
    print(f"{theirs}   {ours:<9} {array.shape}")

batch = textbook.unroll(textbook.layer_step_batch, X, Y_0, W_x, W_y, b)
concat = textbook.unroll(textbook.layer_step_batch_concat, X, Y_0, W, b)
difference = np.abs(batch - concat).max()
print(f"\nTwo products or one, over {T} steps: outputs {batch.shape}, largest difference {difference:.0e}")
assert difference < 1e-12

for i in range(m):
    alone = textbook.unroll(textbook.layer_step_instance, X[:, i], Y_0[i], W_x, W_y, b)
    difference = np.abs(batch[:, i] - alone).max()
    print(f"Instance {i + 1} in the mini-batch or on its own: largest difference {difference:.0e}")
    assert difference < 1e-12
print("Instances do not hear one another: a mini-batch is a way to compute, not a way to connect.")

print("\nThe same numbers out of mr.RecurrentLayer, in both of its backends:")
for backend in ("graph", "fused"):
    layer = mr.RecurrentLayer(k, l, backend=backend, dtype=np.float64)
    layer.load_state_dict({"W_xh": W_x, "W_hh": W_y, "b_h": b[0]})  # minirnn's bias is a vector (H,)
    outputs, final_state = layer(X, initial_state=Y_0)
    difference = np.abs(outputs.numpy() - batch).max()
    print(f"  {backend}: outputs {outputs.shape}, final_state {final_state.shape}, largest difference {difference:.0e}")
    assert difference < 1e-12
    assert (layer.W == W).all()
print(f"layer.W is W_xh stacked on W_hh, {layer.W.shape}: the W of the concatenated form.")
