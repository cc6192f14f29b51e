"""Commands of ``minirnn``, run in this process."""

from minirnn.cli import main


def run(capsys, *arguments):
    """Return exit status and what was printed, after checking that stderr, which is no terminal, stayed empty."""
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out


def error(capsys, *arguments):
    """Return the error that was printed, after checking that it is one line and that nothing else was printed."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("minirnn: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("minirnn: error: ").removesuffix("\n")
