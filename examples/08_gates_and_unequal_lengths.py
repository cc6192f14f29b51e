"""Chapter 8: gates, and sequences of unequal length.

    LSTM  C_t = f ⊙ C_{t-1} + i ⊙ g,  H_t = o ⊙ tanh(C_t)    4 blocks of weights, i f g o; the state is (h, c)
    GRU   H_t = (1 − z) ⊙ n + z ⊙ H_{t-1}                    3 blocks, r z n, with r inside n; the state is h

A mini-batch is a box, (T, N, D), but sequences end when they end: the shorter ones are filled up with padding, and
`lengths` says how many steps of each row count. Now edit LENGTHS, or leave `lengths` out where it is first passed.
"""

import numpy as np

import minirnn as mr

LENGTHS, D, H = [2, 5, 3], 2, 3
T, N, rng, options = max(LENGTHS), len(LENGTHS), np.random.default_rng(8), {"dtype": np.float64, "rng": 8}
sequences = [rng.normal(size=(length, D)) for length in LENGTHS]
x = np.full((T, N, D), np.nan)  # NaN as padding shows whether anything reads it; otherwise 0 is as good
for n, length in enumerate(LENGTHS):
    x[:length, n] = sequences[n]

lstm, gru = mr.LSTMLayer(D, H, **options), mr.GRULayer(D, H, **options)
counts = 4 * H * (D + H + 1), 3 * H * (D + H + 1) + H  # + H is b_hn: r multiplies it, so it cannot be folded into b_h
for layer, formula, count in zip((lstm, gru), ("4H(D+H+1)", "3H(D+H+1) + H"), counts, strict=True):
    print(f"{layer.name}, {formula} = {count} parameters; neuron 1, a row for each sequence:")
    assert layer.count_params() == count
    outputs, final_state = layer(x, lengths=LENGTHS)
    h = layer.last_output(final_state).numpy()  # final_state itself, or the h of an LSTM's (h, c)
    for n, length in enumerate(LENGTHS):
        row = outputs.numpy()[:, n]
        difference = np.abs(row[:length] - layer(sequences[n][:, None]).outputs.numpy()[:, 0]).max()
        print(*(f"{y:8.3f}" for y in row[:, 0]), f"   final {h[n, 0]:6.3f}   alone: difference {difference:.0e}")
        assert difference < 1e-12
        assert not row[length:].any()  # so outputs[-1] is no final state: that of a short row is 0
        assert (h[n] == row[length - 1]).all()

print("\nDo outputs, final states or gradients depend on what stands in the padding?")
for layer in (lstm, gru):
    found = []
    for padding in (0.0, 1e300, np.nan):
        x_in = mr.Tensor(np.where(np.isnan(x), padding, x), requires_grad=True)
        outputs, final_state = layer(x_in, lengths=LENGTHS)
        loss = mr.losses.mse(outputs, np.ones((T, N, H)), lengths=LENGTHS)  # the mean over the steps that count
        final = final_state if layer is lstm else (final_state,)
        found.append([a.numpy() for a in (outputs, *final, loss, *mr.grad(loss, [x_in, *layer.parameters()]))])
    same = all((a == b).all() for other in found[1:] for a, b in zip(found[0], other, strict=True))
    print(f"  {layer.name}, filled up with 0, 1e300 or NaN: {'the same to the last bit' if same else 'they do'}")
    assert same

both = mr.Bidirectional(gru, mr.GRULayer(D, 4, reverse=True, **options))
outputs, (bottom, top) = mr.Stacked([both, mr.LSTMLayer(H + 4, H, **options)])(x, lengths=LENGTHS)
print(f"\nStacked: an LSTM upon a GRU in both directions, outputs {outputs.shape}; each part has its final state:")
print(f"  forward {bottom.forward.shape}, h {top.h.shape}, c {top.c.shape}: after the last step of each row")
print(f"  backward {bottom.backward.shape}: after t = 0, for it begins at the last step of each row")
below = both(x, lengths=LENGTHS).outputs.numpy()
assert (bottom.backward.numpy() == below[0, :, H:]).all()
assert all((bottom.forward.numpy()[n] == below[length - 1, n, :H]).all() for n, length in enumerate(LENGTHS))

stream, reset = np.concatenate(sequences)[:, None], np.zeros((sum(LENGTHS), 1), bool)
reset[np.cumsum(LENGTHS)[:-1]] = True  # where another sequence begins
alone = np.concatenate([gru(sequence[:, None]).outputs.numpy() for sequence in sequences])
difference = np.abs(gru(stream, reset=reset).outputs.numpy() - alone).max()
print(f"All end to end in one row, with resets, x {stream.shape}: difference from each alone {difference:.0e}\n")
assert difference < 1e-12

learned = mr.LSTMLayer(D, H, learn_initial_state=True, **options)  # H more for each array of the state
assert learned.count_params() == counts[0] + 2 * H
learned.summary()
