"""A warning of numpy's that is none, and how a Python of its own takes all others as errors.

OpenBLAS's float32 kernels for AVX-512 read, at an inner dimension of 5, what lies on the stack by chance: the result is
right to the bit, but numpy may warn of an invalid value. What tests compare shows a NaN all the same.
"""

from functools import cache

OPS = ("dot", "matmul")


@cache
def may_come():
    """Whether such kernels are in use."""
    import threadpoolctl

    from minirnn.layers.threads import UNSHARED  # here, so that BLAS has read the variables that conftest sets

    return any(one.get("architecture") in UNSHARED for one in threadpoolctl.threadpool_info())


def filters():
    """Return the filters that let it pass."""
    return [f"ignore:invalid value encountered in {op}:RuntimeWarning" for op in OPS if may_come()]


def strict():
    """Return Python's options that make errors of all others."""
    return ["-Werror", *(f"-W{one}" for one in filters())]
