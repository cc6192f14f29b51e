"""Chapter 4: counting the parameters of a recurrent network.

Note 000, Understanding RNN parameter calculation, and its exam question: 10 inputs, 20 hidden neurons with ReLU, 5
outputs, no bias. Which sizes have W_xh, W_hh and W_hy? The note answers for column vectors, (outputs, inputs); its own
formula, H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), and minirnn use row vectors, (inputs, outputs). Here are both.

On the command line: minirnn count --inputs 10 --hidden 20 --outputs 5 --no-bias
"""

import numpy as np

import minirnn as mr
from minirnn import counting, textbook

exam = counting.elman(10, 20, 5, bias=False)
print("The exam's three answers:")
for name, shape in exam.shapes_column.items():
    print(f"  {name} is {shape}")
assert exam.shapes_column == {"W_xh": (20, 10), "W_hh": (20, 20), "W_hy": (5, 20)}
assert exam.total == 700
print(f"\n{exam.table()}\n\n{exam.formula} = {exam.formula_numbers} = {exam.total}")

print("\nThe network itself counts the same; its summary() says what other libraries would report, and why:\n")
for activation in ("sigmoid", "tanh", "relu"):
    layer = mr.RecurrentLayer(10, 20, activation=activation, bias=False, dtype=np.float64, rng=4)
    network = mr.SequenceModel(layer, mr.Linear(20, 5, bias=False, dtype=np.float64, rng=5))
    assert network.count_params() == sum(p.size for p in network.parameters()) == exam.total
network.summary()

print("\nThe same 700 numbers serve a sequence of any length, here by minirnn and by the textbook's equations:")
W_xh, W_hh, W_hy = (p.numpy() for p in network.parameters())
for T in (1, 50):
    x = np.random.default_rng(T).normal(size=(T, 2, 10))
    predictions, _ = network(x)
    H = textbook.unroll(textbook.layer_step_batch, x, np.zeros((2, 20)), W_xh, W_hh, np.zeros(20), activation="relu")
    difference = np.abs(predictions.numpy() - textbook.head(H, W_hy, np.zeros(5))).max()
    print(f"  T = {T:<2}: predictions {predictions.shape}, largest difference {difference:.0e}")
    assert difference < 1e-12

biased = counting.elman(10, 20, 5)
print(f"\nWith biases: {biased.formula} = {biased.formula_numbers} = {biased.total}")
assert biased.total == mr.SequenceModel(mr.RecurrentLayer(10, 20), mr.Linear(20, 5)).count_params() == 725
print("Other libraries, same recurrent layer:")
for line in biased.reconciliation():
    print(f"  {line}")

print("\nGated cells are made of more blocks of the same size:")
for cell, blocks in ((counting.elman, 1), (counting.gru, 3), (counting.lstm, 4)):
    count = cell(10, 20)
    print(f"  {count.cell:<5}  {count.total:>4} = {count.formula}")
    assert count.shapes["W_xh"] == (10, blocks * 20)
