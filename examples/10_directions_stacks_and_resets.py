# %% [markdown]
# # Chapter 10: two directions, layers on layers, and sequences end to end
#
# One layer that goes forward in time is seldom all. Here is what is built of several, and where each part's state is.

# %%
import numpy as np

import minirnn as mr

LENGTHS, D, H = [2, 5, 3], 2, 3
rng, options = np.random.default_rng(10), {"dtype": np.float64, "rng": 10}
sequences = [rng.normal(size=(length, D)) for length in LENGTHS]
x, lengths = mr.data.pad(sequences)

# %% [markdown]
# ## Two directions
# A layer with `reverse=True` begins at each row's last step and goes back to t = 0. `Bidirectional` runs one of each
# over the same input and puts their outputs side by side: at every step the output knows what was and what will be.

# %%
both = mr.Bidirectional(mr.GRULayer(D, H, **options), mr.GRULayer(D, 4, reverse=True, **options))
outputs, (forward, backward) = both(x, lengths=lengths)
print(f"outputs {outputs.shape}: {H} of the forward layer and 4 of the backward one at each step")
print(f"final states: forward {forward.shape}, after each row's last step; backward {backward.shape}, after t = 0")
found = outputs.numpy()
assert (backward.numpy() == found[0, :, H:]).all()
assert all((forward.numpy()[n] == found[length - 1, n, :H]).all() for n, length in enumerate(lengths))
both

# %% [markdown]
# ## Layers on layers
# `Stacked` feeds the outputs of one layer to the next. Its state has an entry for each layer, whatever that is.

# %%
deep = mr.Stacked([both, mr.LSTMLayer(H + 4, H, **options)])
outputs, (below, (h, c)) = deep(x, lengths=lengths)
print(f"outputs {outputs.shape}")
print(f"state below: forward {below.forward.shape}, backward {below.backward.shape}; above: h {h.shape}, c {c.shape}")
assert (h.numpy()[0] == outputs.numpy()[lengths[0] - 1, 0]).all()
deep

# %% [markdown]
# ## Sequences end to end
# Instead of side by side, short sequences can stand one after the other in one row. `reset`, a mask (T, N), says where
# a new one begins: nothing crosses that line, neither forward nor back.

# %%
gru = mr.GRULayer(D, H, **options)
stream, reset = np.concatenate(sequences)[:, None], np.zeros((sum(LENGTHS), 1), bool)
reset[np.cumsum(LENGTHS)[:-1]] = True
alone = np.concatenate([gru(sequence[:, None]).outputs.numpy() for sequence in sequences])
difference = np.abs(gru(stream, reset=reset).outputs.numpy() - alone).max()
print(f"x {stream.shape}, a new sequence at steps {np.flatnonzero(reset)}: difference from each alone {difference:.0e}")
assert difference < 1e-12
assert np.abs(gru(stream).outputs.numpy() - alone).max() > 0.01

# %% [markdown]
# ## Where a state comes from
# It is zeros unless you say something else: hand one over (and `detach()` it, if the gradient should end there), or let
# the layer learn where to begin, one more parameter for each array of its state.

# %%
learned = mr.LSTMLayer(D, H, learn_initial_state=True, **options)
print("learned:", *(f"{name} {p.shape}" for name, p in learned.named_parameters()))
assert learned.count_params() == mr.LSTMLayer(D, H).count_params() + 2 * H

first, second = x[:3, 1:2], x[3:, 1:2]  # row 1 in two pieces
_, state = gru(first)
outputs, _ = gru(second, state.detach())
whole = gru(x[:, 1:2]).outputs.numpy()
print(f"a row in two pieces, its state carried over: difference {np.abs(outputs.numpy() - whole[3:]).max():.0e}")
assert np.abs(outputs.numpy() - whole[3:]).max() < 1e-12

# %% [markdown]
# ## Now you
# Carrying a state over with its gradient cut is what truncated BPTT is made of.

# %%
print(mr.exercises.EXERCISES["truncated"])
