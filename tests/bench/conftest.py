import pytest

from minirnn import threads


@pytest.fixture(autouse=True)
def own_threads(monkeypatch):
    """The number of threads afterwards is what it was, and BLAS is not told of it."""
    monkeypatch.setattr(threads, "_state", threads._State())
    monkeypatch.setattr(threads, "_blas", lambda: [])
