# %% [markdown]
# # Chapter 9: sequences of unequal length
#
# A mini-batch is a box, (T, N, D), but sequences end when they end: the shorter ones are filled up with *padding*, and
# `lengths` says how many steps of each row count. Two things go wrong when that is forgotten: what stands in the
# padding changes the results, and "the last output" of a short row is not its last.

# %%
import numpy as np

import minirnn as mr

LENGTHS, D, H = [2, 5, 3], 2, 3
T, N, rng = max(LENGTHS), len(LENGTHS), np.random.default_rng(9)
sequences = [rng.normal(size=(length, D)) for length in LENGTHS]

x, lengths = mr.data.pad(sequences)
print(f"x {x.shape}, lengths {lengths}; the first input of each row, 0 where it has ended:")
print(np.array2string(x[:, :, 0].T, precision=2, suppress_small=True))

# %% [markdown]
# ## Outputs and final states
# Outputs past a row's end are 0, `final_state` is that of each row's own last step, and a row gets the numbers that it
# would get alone. So `outputs[-1]` is no final state: that of a short row is 0.

# %%
lstm, gru = (kind(D, H, dtype=np.float64, rng=8) for kind in (mr.LSTMLayer, mr.GRULayer))
for layer in (lstm, gru):
    print(f"{layer.name}: the output of neuron 0 at each step, a line for each row")
    outputs, final_state = layer(x, lengths=lengths)
    h = layer.last_output(final_state).numpy()  # final_state itself, or the h of an LSTM's (h, c)
    for n, length in enumerate(lengths):
        row = outputs.numpy()[:, n]
        difference = np.abs(row[:length] - layer(sequences[n][:, None]).outputs.numpy()[:, 0]).max()
        print(*(f"{y:8.3f}" for y in row[:, 0]), f"   final {h[n, 0]:6.3f}   from alone: {difference:.0e}")
        assert difference < 1e-12
        assert not row[length:].any()
        assert (h[n] == row[length - 1]).all()

# %% [markdown]
# ## Nothing reads the padding
# Fill it up with 0, with 1e300 or with NaN: outputs, final states, a loss that is told the lengths, and all gradients
# are the same to the last bit.

# %%
inside = np.arange(T)[:, None] < lengths  # (T, N): which steps count
for layer in (lstm, gru):
    found = []
    for padding in (0.0, 1e300, np.nan):
        x_in = mr.Tensor(np.where(inside[:, :, None], x, padding), requires_grad=True)
        outputs, final_state = layer(x_in, lengths=lengths)
        loss = mr.losses.mse(outputs, np.ones((T, N, H)), lengths=lengths)  # the mean over the steps that count
        final = final_state if layer is lstm else (final_state,)
        found.append([a.numpy() for a in (outputs, *final, loss, *mr.grad(loss, [x_in, *layer.parameters()]))])
    same = all((a == b).all() for other in found[1:] for a, b in zip(found[0], other, strict=True))
    print(f"{layer.name}, filled up with 0, 1e300 or NaN: {'the same to the last bit' if same else 'they differ'}")
    assert same

# %% [markdown]
# ## What if `lengths` is forgotten?
# No error, and another answer: the short rows go on reading their padding.

# %%
told, untold = (gru.last_output(gru(x, lengths=given).final_state).numpy()[:, 0] for given in (lengths, None))
for n, length in enumerate(lengths):
    print(f"row {n}, {length} steps: final state with lengths {told[n]:6.3f}, without {untold[n]:6.3f}")
assert ((told == untold) == (lengths == T)).all()

# %% [markdown]
# ## Now you
# A mask on the way forward, and one on the way back.

# %%
for name in ("masked_forward", "masked_backward"):
    print(f"{name:<20}{mr.exercises.EXERCISES[name].title}")
print(f"\nThe first of them:\n\n{mr.exercises.EXERCISES['masked_forward']}")
