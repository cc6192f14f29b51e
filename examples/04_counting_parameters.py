"""Chapter 4: counting the parameters of a recurrent network.

Note 000, Understanding RNN parameter calculation, and its exam question: 10 inputs, 20 hidden neurons with ReLU, 5
outputs, no bias. Which sizes have W_xh, W_hh and W_hy? The note answers for column vectors, (outputs, inputs); its own
formula, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), and minirnn use row vectors, (inputs, outputs). Here are both.
"""

import numpy as np

from minirnn import counting, textbook

exam = counting.elman(10, 20, 5, bias=False)
print("The exam's three answers:")
for name, shape in exam.shapes_column.items():
    print(f"  {name} is {shape}")
assert exam.shapes_column == {"W_xh": (20, 10), "W_hh": (20, 20), "W_hy": (5, 20)}
assert exam.total == 700

print(f"\n{exam.table()}\n\n{exam.formula} = {exam.formula_numbers} = {exam.total}")

print("\nWhat does not matter:")
for note in exam.notes:
    print(f"  {note}")
rng = np.random.default_rng(4)
W_xh, W_hh, W_hy = (rng.normal(scale=0.1, size=shape) for shape in exam.shapes.values())
assert W_xh.size + W_hh.size + W_hy.size == exam.total
for T, activation in [(1, "relu"), (50, "relu"), (50, "tanh")]:  # the same 700 numbers serve them all
    H = textbook.unroll(
        textbook.layer_step_batch,
        rng.normal(size=(T, 2, 10)),
        np.zeros((2, 20)),
        W_xh,
        W_hh,
        np.zeros(20),
        activation=activation,
    )
    print(
        f"  T = {T:<2}  φ = {activation}: outputs {textbook.head(H, W_hy, np.zeros(5)).shape}, parameters {exam.total}"
    )

biased = counting.elman(10, 20, 5)
print(f"\nWith biases: {biased.formula} = {biased.formula_numbers} = {biased.total}")
assert biased.total == 725

print("\nOther libraries, same recurrent layer (without its head):")
for line in biased.reconciliation():
    print(f"  {line}")

print("\nGated cells are made of more blocks of the same size:")
for cell, blocks in ((counting.elman, 1), (counting.gru, 3), (counting.lstm, 4)):
    count = cell(10, 20)
    print(f"  {count.cell:<5}  {count.total:>4} = {count.formula}")
    assert count.shapes["W_xh"] == (10, blocks * 20)
