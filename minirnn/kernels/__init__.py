"""The fast path on plain arrays: pointwise cells, and the unroll that makes every matrix product.

Kernels come in pairs, ``forward`` and ``backward``; they know nothing of Tensors, never write into what they are given.

Which form of the unroll serves which shape, N rows of T steps with D inputs and H neurons:

| form | where | serves | since |
| --- | --- | --- | --- |
| joined, forward | elman.py | Elman, D + H ≤ 104 and N (D + H) ≤ 4096 | two calls a step, not three: dot, φ |
| hoisted, forward | elman.py | Elman, other shapes | the input side in one product, and nothing is turned |
| folded, backward | folded.py | Elman, N = 1, H ≤ 20 | one call a step, a dot; of H ≤ 12 blocks of 8 steps |
| joined, backward | elman.py | Elman, N = 1, H ≤ 80 | two calls a step: dot, multiply |
| hoisted, backward | elman.py | Elman, other shapes | three calls a step on rows as they are |
| padded | padded.py | lengths, bounded states, small steps | a step costs its calls, hardly its rows |
| falling | falling.py | Elman with lengths or resets, else | what has ended costs nothing |
| folded, backward | folded_lstm.py | LSTM, N = 1, H ≤ 32 | one call a step, a dot with a matrix made for it |
| columns | columns.py | all other cells, Elman's with a mask or a clip | each gate is contiguous |
| lanes | lanes.py | the same with lengths or resets, else | sequences one after the other in full lanes |
"""
