# %% [markdown]
# # Chapter 12: a cell of your own, and how to know that its gradient is right
#
# The update-gate cell (UGRNN) of Collins, Sohl-Dickstein and Sussillo (2017, arXiv:1611.09913): a gate u says how much
# of the state stays.
#
#     u = σ(Z_u)   n = tanh(Z_n)   H_t = u ⊙ H_{t-1} + (1 − u) ⊙ n
#
# The layer makes the products; a cell gets Z, (N, 2H), and works entry by entry. Its equation is enough for everything:
# both backends, derivatives, explanations, the drawing.

# %%
import numpy as np

import minirnn as mr


class UpdateGate(mr.Cell):
    """The equation, with the names of its gates."""

    gates = {"u": "sigmoid", "n": "tanh"}

    def equation(self, z, h):
        """Return the new state, a tuple even of one."""
        u, n = self.activated(z)
        return (u * h + (1.0 - u) * n,)


layer = mr.RecurrentLayer(1, 2, cell=UpdateGate(), rng=0)
layer

# %% [markdown]
# What goes back through it, derived from the equation:

# %%
text = mr.bptt.explain(layer, np.ones((3, 1, 1)), t=1)
print(*[line for line in text.splitlines() if " = dL/dH_t ⊙" in line], sep="\n")

# %% [markdown]
# ## The same by hand
# For speed a cell can also do the step itself, on arrays, with its derivative: `step` and `step_backward`. Then the
# derivative is yours to get right. `Forgetful` has a mistake in it.


# %%
class Fast(UpdateGate):
    """The step by hand."""

    def step(self, z, h):
        """Return the new state, and what `step_backward` needs."""
        z_u, z_n = np.split(z, 2, axis=1)
        u, n = 0.5 + 0.5 * np.tanh(0.5 * z_u), np.tanh(z_n)  # σ, in a form that cannot overflow
        return (u * h + (1 - u) * n,), (u, n, h)

    def step_backward(self, d_state, saved):
        """Return dZ, and the gradient of H_{t-1} past Z; dZ W_hhᵀ, the one through Z, is added by the layer."""
        (d,), (u, n, h) = d_state, saved
        dz = np.hstack([d * (h - n) * u * (1 - u), d * (1 - u) * (1 - n**2)])
        return dz, (d * u,)


class Forgetful(Fast):
    """The road past Z is forgotten."""

    def step_backward(self, d_state, saved):
        """Return dZ, and 0 where d * u should be."""
        return super().step_backward(d_state, saved)[0], (np.zeros_like(d_state[0]),)


# %% [markdown]
# ## `gradcheck`
# It nudges each entry of each input by a little, up and down, and holds the change of the outputs against the gradient.
# Here it is asked about one input at a time, so that we see which ones are wrong. Why more than one step? At T = 1 the
# missing term is seen in h_0 only.


# %%
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


(fused, _), (graph, _) = check(Fast(), T=5), check(UpdateGate(), T=5, backend="graph")
differences = [np.abs(a.numpy() - b.numpy()).max() for a, b in zip(fused, graph, strict=True)]
print("by hand against the equation, in dx, dh_0, dW_xh, dW_hh, db_h:", *(f"{d:.0e}" for d in differences))
assert max(differences) < 1e-12
for cell, T, expected in [(UpdateGate(), 5, 0), (Fast(), 5, 0), (Forgetful(), 1, 1), (Forgetful(), 5, 5)]:
    _, wrong = check(cell, T)
    print(f"{type(cell).__name__ + ',':<11} T = {T}: {len(wrong)} of 5 wrong", *wrong, sep="  ")
    assert len(wrong) == expected

# %% [markdown]
# ## A wrong gradient trains, too
# Only worse, which is why nobody notices. The adding problem with T = 20, the MSE in the tenths of 300 updates:

# %%
UPDATES, mse = 300, {}
for name, cell, H in [("tanh", None, 46), ("UpdateGate", Fast(), 32), ("Forgetful", Forgetful(), 32)]:
    model = mr.SequenceModel(mr.RecurrentLayer(2, H, cell=cell, rng=7), mr.Linear(H, 1, rng=8), readout="last")
    adam, data = mr.optim.Adam(model.parameters(), lr=0.01), mr.tasks.AddingTask(20).batches(32, rng=9)
    history = mr.training.fit(model, data, loss=mr.losses.mse, optimizer=adam, max_updates=UPDATES, progress=False)
    mse[name] = [part.mean() for part in np.array_split(history.loss, 10)]
    print(f"{name:<10}  {model.count_params()} parameters ", *(f"{m:.3f}" for m in mse[name]))
assert mse["tanh"][-1] > 2 * mse["Forgetful"][-1] > 4 * mse["UpdateGate"][-1]

# %% [markdown]
# ## Now you
# Edit `Forgetful` into another mistake: does `gradcheck` find it? Then a cell with three gates, step by step:

# %%
print(mr.exercises.EXERCISES["gru_step_backward"])
