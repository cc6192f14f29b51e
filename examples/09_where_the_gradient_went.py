"""Chapter 9: where the gradient went.

    dL/dH_t = local (entering at step t) + carried (coming back from step t+1)

Chapter 5 went back by hand. `mr.bptt.trace` does it for any layer and keeps what flows at every step. On the adding
problem the loss looks at the last output alone, so everything that reaches an early step was carried there: how much of
it is left decides whether the two marked numbers can be connected with the answer.
"""

import numpy as np

import minirnn as mr

T, N, H = 50, 16, 32
task = mr.tasks.AddingTask(T)
x, y = task.batch(N, rng=0)


def model_of(layer):
    return mr.SequenceModel(layer, mr.Linear(H, 1, dtype=np.float64, rng=1), readout="last")


options = {"dtype": np.float64, "rng": 9}
models = {
    "tanh, Glorot": model_of(mr.RecurrentLayer(2, H, recurrent_initializer="glorot", **options)),
    "ReLU, identity": model_of(mr.RecurrentLayer(2, H, activation="relu", init="irnn", **options)),
    "LSTM": model_of(mr.LSTMLayer(2, H, **options)),
}
traces = {
    name: mr.bptt.trace(model, x, lambda predictions: mr.losses.mse(predictions, y)) for name, model in models.items()
}

print(f"‖dL/dH_t‖ at step          {'':1}" + "".join(f"{t:>10}" for t in (49, 40, 30, 20, 10, 0)))
for name, trace in traces.items():
    print(f"  {name:24}" + "".join(f"{trace.gradient_norms[t]:10.1e}" for t in (49, 40, 30, 20, 10, 0)))
    assert np.allclose(trace.dL_dh, trace.dL_dh_local + trace.dL_dh_carried, rtol=0, atol=1e-15)
glorot, identity = traces["tanh, Glorot"], traces["ReLU, identity"]
assert glorot.gradient_norms[0] < 1e-2 * glorot.gradient_norms[-1]  # it vanished on the way
assert identity.gradient_norms[0] > 0.1 * identity.gradient_norms[-1]  # and here it did not

print("\nWhy? A step multiplies by its Jacobian, and its singular values say by how much, between these bounds:")
for name, trace in traces.items():
    values = trace.singular_values(25, 24)[0]  # of row 0
    print(f"  {name:24} σ of ∂state_25/∂state_24: {values[0]:.3f} … {values[-1]:.3f}")

print("\nThe gradient of W_hh, taken apart by the step k at which the weights were used, sums up to the whole:")
credit = glorot.credit()
parts = [credit.contribution(T - 1, k)["W_hh"] for k in range(T)]
print(f"  ‖sum of {T} parts − gradient‖ = {np.abs(sum(parts) - glorot.gradients['W_hh']).max():.0e}")
assert np.allclose(sum(parts), glorot.gradients["W_hh"], rtol=0, atol=1e-14)
assert np.allclose([np.linalg.norm(part) for part in parts], credit.norms[T - 1], rtol=1e-9)

print("\nTruncated to the last k2 steps (TBPTT(1, k2)), the gradient points away from the true one by")
print(f"{'k2 =':>27}" + "".join(f"{k2:>8}" for k2 in (1, 5, 10, 20, 40, 50)))
for name, trace in traces.items():
    angles = trace.truncation_angles()
    print(f"  {name:25}" + "".join(f"{angles[k2 - 1]:7.1f}°" for k2 in (1, 5, 10, 20, 40, 50)))
    assert angles[-1] < 1e-5

print("\nAnd forward in time, without going back at all (real-time recurrent learning), at H = 4:")
small, target = mr.RecurrentLayer(2, 4, **options), np.ones((N, 4))
forward = mr.bptt.rtrl(small, x, lambda outputs: mr.losses.mse(outputs[-1], target))
backward = mr.bptt.trace(small, x, lambda outputs: mr.losses.mse(outputs[-1], target)).gradients
print(f"  largest difference {max(np.abs(forward[name] - backward[name]).max() for name in backward):.0e}")
assert all(np.allclose(forward[name], backward[name], rtol=0, atol=1e-12) for name in backward)

report = mr.bptt.doctor(glorot)
print(f"\nWhat the doctor says of tanh with Glorot:\n{report}")
assert report.verdict == "vanishing"
