"""What all tests share: one BLAS thread, torch where it is installed, an option that turns skips into failures."""

import copy
import os
import signal
import warnings

import false_alarms
import pytest

# Small matrices gain nothing from threads, and sums that are split differently differ in their last digit.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# Under nohup, or in the background of a shell, SIGINT is ignored, and by the processes that tests interrupt as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_threads(monkeypatch):
    """Each test starts as a process does; afterwards minirnn's number of threads and BLAS's are what they were."""
    from minirnn.layers import threads  # here, so that BLAS has read the variables above

    state = copy.copy(threads._state)
    state.threads = 0  # what a fixture of a whole module has set, as a command does, is not for the tests
    monkeypatch.setattr(threads, "_state", state)
    libraries = threads._controlled()
    before = [library.get_num_threads() for library in libraries]
    yield
    for library, n in zip(libraries, before, strict=True):
        library.set_num_threads(n)


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="fail if any test is skipped")


def pytest_configure(config):
    for one in false_alarms.filters():
        config.addinivalue_line("filterwarnings", one)
    os.environ.setdefault("PYTHONWARNINGS", ",".join(false_alarms.filters()))  # for processes that tests start


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if session.config.getoption("--no-skips") and skipped and exitstatus == 0:
        session.exitstatus = 1
        reporter.write_line(f"--no-skips: {len(skipped)} tests were skipped", red=True)


@pytest.fixture
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch warns of while it is imported is not ours to mend
        return pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[peers]'")


@pytest.fixture
def distributed():
    return pytest.importorskip("distributed", reason="distributed is not installed: pip install -e '.[sweep]'")


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[sweep]'")
