"""The command line's entry point: errors become lines and exit codes.

What a command needs beyond the standard library is imported when it runs: help and errors answer
at once.
"""

import io
import os
import signal
import sys
import traceback
import warnings

import absl.logging

from crnn_jax.cli.parse import parse
from crnn_jax.config import ClusterConfig
from crnn_jax.errors import DISK_ERRORS, ProcessLost, UserError
from crnn_jax.signals import Terminated
from crnn_jax.user_text import printable


def _joined(cluster: ClusterConfig) -> bool:
    """Whether this process has joined others."""
    if not cluster.several_processes:
        return False
    import jax

    return jax.distributed.is_initialized()


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    """A warning without the line of code that gave it."""
    return printable(f"crnn-jax: {message}") + "\n"


def _is_of_an_address(error: Exception) -> bool:
    """Whether it says that there is no file system for an address such as ``s3://…``."""
    modules = {
        frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)
    }
    return not modules.isdisjoint({"fsspec.registry", "etils.epath.register"})


def _say(text: str) -> None:
    """One line on standard error, at once."""
    print(printable(f"crnn-jax: {text}"), file=sys.stderr, flush=True)


def main() -> None:
    """Entry point of ``crnn-jax``. Exit codes: 0, 1 a run failed, 2 the user's to mend."""
    cluster = None
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Of a name, what the terminal's encoding has no signs for; standard error does so anyway.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command = parse(sys.argv[1:] or ["--help"])
        # TFDS and Orbax tell their own doings as warnings and errors; what matters raises.
        absl.logging.set_verbosity(absl.logging.FATAL)
        warnings.formatwarning = _warning_line  # type: ignore[assignment]
        cluster = getattr(command, "cluster", None)
        code = command.run()
    except UserError as error:
        _say(error.for_command_line())
        code = 2
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        _say(
            f"{error.filename or 'the disk'}: {error.strerror}; finished results are kept, make "
            f"room or choose another folder and give the command again"
        )
        code = 2
    except (ImportError, KeyError) as error:
        if not _is_of_an_address(error):
            raise
        _say(
            f"{error.args[0]}: no way to such an address; install what it needs, or give a local "
            f"folder"
        )
        code = 2
    except KeyboardInterrupt:
        _say("stopped; the same command goes on where it was")
        code = 130
    except ProcessLost as error:
        _say(
            f"{error}; this process cannot go on with the others, and they end as well: give the "
            f"same command again to all of them"
        )
        # At once: an ordinary end waits for the others, which wait for this one.
        os._exit(1)
    except Terminated:
        _say("terminated; the same command goes on where it was")
        code = 128 + signal.SIGTERM
    if code == 2 and cluster is not None and _joined(cluster):
        # At once: an ordinary end waits for the others, which wait for this one.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
