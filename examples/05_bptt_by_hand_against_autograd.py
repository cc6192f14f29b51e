"""Chapter 5: back-propagation through time (BPTT) by hand, against autograd.

H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h) reaches the loss on two roads: as the output of step t, and as the state that
enters step t+1. With dA for ∂L/∂A, from the last step to the first (minirnn/textbook/layer.py, unroll_backward):

    dH_t = local (from the output of step t) + carried (dZ_{t+1} W_hhᵀ, from all later steps)
    dZ_t = dH_t ⊙ (1 − H_t²)
    dW_hh = Σ_t H_{t-1}ᵀ dZ_t, and so on: the same weights are used T times, so their gradients add up

What if the carried part is forgotten? The gradient that is left looks healthy, and is wrong.
"""

import numpy as np

import minirnn as mr
from minirnn import textbook

rng = np.random.default_rng(5)
x, h_0, target = rng.normal(size=(5, 1, 1)), rng.normal(size=(1, 2)), rng.uniform(-1, 1, (5, 1, 2))  # T=5 N=1 D=1 H=2
W_xh, W_hh, b_h = np.array([[0.5, -0.3]]), np.array([[0.9, -0.5], [0.5, 0.9]]), np.array([0.1, 0.0])
outputs = textbook.unroll(textbook.layer_step_batch, x, h_0, W_xh, W_hh, b_h)


def walk(carry):
    """Go back through the steps of L = ½ Σ_t ‖H_t − target_t‖²; return dx, dh_0, dW_xh, dW_hh, db_h."""
    states = [h_0, *outputs]  # states[t] is H_t, as outputs[t-1] is: Python counts from 0
    dx, dW_xh, dW_hh, db_h = (np.zeros_like(a) for a in (x, W_xh, W_hh, b_h))
    carried = np.zeros_like(h_0)  # nothing comes after step T
    for t in range(len(x), 0, -1):
        local = states[t] - target[t - 1]
        dH = local + carried
        dZ = dH * (1 - states[t] ** 2)
        print(f"  {t}" + "".join("   " + " ".join(f"{v:7.4f}" for v in a[0]) for a in (local, carried, dH, dZ)))
        dx[t - 1] = dZ @ W_xh.T
        dW_xh += x[t - 1].T @ dZ
        dW_hh += states[t - 1].T @ dZ
        db_h += dZ.sum(axis=0)
        carried = dZ @ W_hh.T if carry else np.zeros_like(h_0)
    return dx, carried, dW_xh, dW_hh, db_h


print("  t   local             carried           dH_t              dZ_t")
by_hand = walk(carry=True)
found = {"textbook": textbook.unroll_backward(x, h_0, W_xh, W_hh, b_h, d_outputs=outputs - target)}
for backend in ("graph", "fused"):
    layer = mr.RecurrentLayer(1, 2, backend=backend, dtype=np.float64)
    layer.load_state_dict({"W_xh": W_xh, "W_hh": W_hh, "b_h": b_h})
    x_in, h_in = mr.Tensor(x, requires_grad=True), mr.Tensor(h_0, requires_grad=True)
    (0.5 * (layer(x_in, h_in).outputs - target) ** 2).sum().backward()
    found[f"autograd, {backend}"] = [a.grad for a in (x_in, h_in, layer.W_xh, layer.W_hh, layer.b_h)]
print("\nLargest difference from the gradients by hand, in dx, dh_0, dW_xh, dW_hh, db_h:")
for name, gradients in found.items():
    differences = [np.abs(g - expected).max() for g, expected in zip(gradients, by_hand, strict=True)]
    print(f"  {name:<15}" + "".join(f"{d:8.0e}" for d in differences))
    assert max(differences) < 1e-12

print("\nThe same walk with the carried term forgotten, which is BPTT truncated to one step:")
forgetful = walk(carry=False)
layer.zero_grad()
state = mr.Tensor(h_0)
for x_t, target_t in zip(x, target, strict=True):
    state = layer.step(x_t, state.detach())  # the same in autograd: detach() closes the road through the state
    (0.5 * (state - target_t) ** 2).sum().backward()  # each backward adds to the weights' .grad
assert np.abs(layer.W_hh.grad - forgetful[3]).max() < 1e-12
(full, cut), norm = (by_hand[3], forgetful[3]), np.linalg.norm
print(f"\ndW_hh in full {full.ravel().round(3)}, forgetful {cut.ravel().round(3)}: wrong by", end=" ")
print(f"{norm(cut - full) / norm(full):.0%} of its length,\nthe last entry by its sign, and yet no number looks amiss.")
assert norm(cut - full) > 0.3 * norm(full)
assert full[1, 1] * cut[1, 1] < 0.0
