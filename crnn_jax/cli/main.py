"""The command line's entry point: errors become one-line messages and exit codes.

Commands import their heavy dependencies when they run, so that help and usage errors are immediate.
"""

import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn

from crnn_jax.cli.parse import parse
from crnn_jax.errors import DISK_ERRORS, ProcessLost, UserError
from crnn_jax.signals import Terminated
from crnn_jax.user_text import printable


def _joined() -> bool:
    """Return whether this process has joined others, by which it must have imported JAX."""
    if "jax" not in sys.modules:
        return False
    import jax

    return jax.distributed.is_initialized()


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    """Format a warning without the line of code that issued it."""
    return printable(f"crnn-jax: {message}") + "\n"


def _is_of_an_address(error: Exception) -> bool:
    """Return whether an error means that an address such as ``s3://…`` has no file system."""
    modules = {
        frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)
    }
    return not modules.isdisjoint({"fsspec.registry", "etils.epath.register"})


def _say(text: str) -> None:
    """Print one line to standard error and flush it."""
    print(printable(f"crnn-jax: {text}"), file=sys.stderr, flush=True)


def main() -> None:
    """Run ``crnn-jax``. Exit codes: 0 success, 1 a run failed, 2 an error that the user can fix."""
    exit_after(_run_command)


def _run_command() -> int:
    """Run the command that the arguments name, and return its exit code."""
    command = parse(sys.argv[1:] or ["--help"])
    import absl.logging

    # TFDS and Orbax log routine events as warnings and errors; what matters is raised.
    absl.logging.set_verbosity(absl.logging.FATAL)
    warnings.formatwarning = _warning_line  # type: ignore[assignment]
    return command.run()


def exit_after(run: Callable[[], int | None]) -> NoReturn:
    """Run a command or a script, and end the process with its exit code.

    What the user can cause becomes one line on standard error and exit code 2, without a traceback;
    so do an interrupt and lost processes, with exit codes of their own.

    Parameters
    ----------
    run
        What to run; it returns its exit code, or None for 0.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Escape characters that the terminal's encoding lacks; standard error does so by default.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = run() or 0
        sys.stdout.flush()
    except UserError as error:
        _say(error.for_command_line())
        code = 2
    except BrokenPipeError:
        # Whoever reads the output, such as `head`, has seen enough. Python would say so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _say(
            f"{error.filename or 'the disk'}: {error.strerror}; finished results are kept; free "
            f"up space or choose another folder, then give the command again"
        )
        code = 2
    except (ImportError, KeyError) as error:
        if not _is_of_an_address(error):
            raise
        _say(
            f"{error.args[0]}: no file system for this address; install what it needs, or give a "
            f"local folder"
        )
        code = 2
    except KeyboardInterrupt:
        _say("stopped; give the same command again to resume")
        code = 130
    except ProcessLost as error:
        _say(
            f"{error}; this process cannot continue with the others, which end as well: give the "
            f"same command again to all of them to resume"
        )
        # Immediately: an ordinary exit waits for the others, which wait for this one.
        os._exit(1)
    except Terminated:
        _say("terminated; give the same command again to resume")
        code = 128 + signal.SIGTERM
    if code == 2 and _joined():
        # Immediately: an ordinary exit waits for the others, which wait for this one.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
