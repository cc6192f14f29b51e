"""What is refused because it would not fit into memory."""

LARGEST = 1 << 30
"""Bytes that one array of `minirnn.bptt` may take: 1 GiB."""


def fits(size: int, what: str, hint: str) -> None:
    """Refuse what takes more than `LARGEST` bytes: a MemoryError."""
    if size > LARGEST:
        raise MemoryError(f"{what} would take {size:,} bytes, more than {LARGEST:,}: {hint}")
