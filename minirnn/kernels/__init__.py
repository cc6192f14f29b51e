"""The fast path on plain arrays: pointwise cells, and the unroll that makes every matrix product.

Kernels come in pairs, ``forward`` and ``backward``; they know nothing of Tensors, never write into what they are given.
"""
