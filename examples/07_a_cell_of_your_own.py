"""Chapter 7: a cell of your own, and how to know that its gradient is right.

The update-gate cell (UGRNN) of Collins, Sohl-Dickstein and Sussillo (2017, arXiv:1611.09913): u says how much stays.
The layer makes the products; a cell gets Z, (N, 2H), and works entry by entry. Its equation is enough for everything.
`Fast` also does the step by hand, which is quicker. Now edit `Forgetful` into another mistake: does gradcheck find it?
"""

# ruff: noqa: D101, D102
import numpy as np

import minirnn as mr


class UpdateGate(mr.Cell):
    gates = {"u": "sigmoid", "n": "tanh"}

    def equation(self, z, h):
        u, n = self.activated(z)
        return (u * h + (1.0 - u) * n,)  # the state, a tuple even of one


class Fast(UpdateGate):
    def step(self, z, h):
        z_u, z_n = np.split(z, 2, axis=1)
        u, n = 0.5 + 0.5 * np.tanh(0.5 * z_u), np.tanh(z_n)  # σ, in a form that cannot overflow
        return (u * h + (1 - u) * n,), (u, n, h)  # and what step_backward needs

    def step_backward(self, d_state, saved):
        (d,), (u, n, h) = d_state, saved
        dz = np.hstack([d * (h - n) * u * (1 - u), d * (1 - u) * (1 - n**2)])
        return dz, (d * u,)  # the road from H_{t-1} past Z; the one through Z, dZ W_hhᵀ, is added by the layer


class Forgetful(Fast):
    def step_backward(self, d_state, saved):
        return super().step_backward(d_state, saved)[0], (np.zeros_like(d_state[0]),)  # wrong: where is d * u?


def check(cell, T, backend="fused"):
    layer, rng = mr.RecurrentLayer(2, 4, cell=cell, backend=backend, dtype=np.float64, rng=1), np.random.default_rng(2)
    x, h_0 = (mr.Tensor(rng.normal(size=shape), requires_grad=True) for shape in [(T, 3, 2), (3, 4)])
    inputs, wrong = {"x": x, "h_0": h_0, **dict(layer.named_parameters())}, {}
    for name, tensor in inputs.items():
        try:
            mr.gradcheck(lambda *_: layer(x, h_0), [tensor], names=[name])
        except mr.GradcheckError as error:
            wrong[name] = str(error).partition(" (")[0]
    return mr.grad((layer(x, h_0).outputs ** 2).sum(), list(inputs.values())), wrong


text = mr.bptt.explain(mr.RecurrentLayer(1, 2, cell=UpdateGate(), rng=0), np.ones((3, 1, 1)), t=1)
print("What goes back through it:", *[line for line in text.splitlines() if " = dL/dH_t ⊙" in line], sep="\n  ")
(fused, _), (graph, _) = check(Fast(), T=5), check(UpdateGate(), T=5, backend="graph")
differences = [np.abs(a.numpy() - b.numpy()).max() for a, b in zip(fused, graph, strict=True)]
print("Fused against graph, in dx, dh_0, dW_xh, dW_hh, db_h:", *(f"{d:.0e}" for d in differences))
assert max(differences) < 1e-12
for cell, T, expected in [(UpdateGate(), 5, 0), (Fast(), 5, 0), (Forgetful(), 1, 1), (Forgetful(), 5, 5)]:
    _, wrong = check(cell, T)  # why more than one step? At T = 1 the missing term is seen in h_0 only
    print(f"gradcheck of {type(cell).__name__ + ',':<11} T = {T}: {len(wrong)} of 5 wrong", *wrong, sep="  ")
    assert len(wrong) == expected
T, UPDATES, mse = 20, 300, {}
print(f"\nA wrong gradient trains, too, only worse. Adding with T = {T}, MSE in the tenths of {UPDATES} updates:")
for name, cell, H in [("tanh", None, 46), ("UpdateGate", Fast(), 32), ("Forgetful", Forgetful(), 32)]:
    model = mr.SequenceModel(mr.RecurrentLayer(2, H, cell=cell, rng=7), mr.Linear(H, 1, rng=8), readout="last")
    adam, data = mr.optim.Adam(model.parameters(), lr=0.01), mr.tasks.AddingTask(T).batches(32, rng=9)
    history = mr.training.fit(model, data, loss=mr.losses.mse, optimizer=adam, max_updates=UPDATES, progress=False)
    mse[name] = [part.mean() for part in np.array_split(history.loss, 10)]
    print(f"  {name:<10}  {model.count_params()} parameters ", *(f"{m:.3f}" for m in mse[name]))
assert mse["tanh"][-1] > 2 * mse["Forgetful"][-1] > 4 * mse["UpdateGate"][-1]
