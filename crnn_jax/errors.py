"""Errors that a user can cause, and what the command line prints of them."""

import errno
import tokenize

# Errors of a disk that cannot be written to, does not accept a name, or has no locks (Lustre and
# NFS mounted without them). The user can resolve these wherever they occur.
DISK_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
        *(errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP),
    }
)


# What NumPy raises for a file that is not a valid .npy file: its header parser does not wrap all
# errors, and a damaged header may declare any shape.
ARRAY_ERRORS = (ValueError, TypeError, OverflowError, MemoryError, EOFError, tokenize.TokenError)


class UserError(Exception):
    """Something in the input is wrong; the message names the input and the fix, in one line.

    The command line prints it without a traceback and exits with code 2. Every other exception is
    a bug and keeps its traceback.

    Parameters
    ----------
    problem
        What is wrong, and what to do.
    field
        The configuration field at fault, if there is one: ``batch_size``, ``mel.clip_seconds``.
        The command line prints it as a flag.
    value
        The field's value.

    Examples
    --------
    >>> error = UserError("give a number above 0", field="batch_size", value=0)
    >>> str(error)
    'batch_size 0: give a number above 0'
    >>> error.for_command_line()
    '--batch-size 0: give a number above 0'
    """

    def __init__(self, problem: str, *, field: str | None = None, value: object = None):
        super().__init__(problem, field, value)
        self.problem = problem
        self.field = field
        self.value = value

    def __str__(self) -> str:
        return self._line(self.field)

    def for_command_line(self) -> str:
        """Return the message with the field's flag in place of its name."""
        return self._line(self.field and "--" + self.field.replace("_", "-"))

    def _line(self, name: str | None) -> str:
        if name is None:
            return self.problem
        value = "" if self.value is None else f" {self.value}"
        return f"{name}{value}: {self.problem}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled by their arguments on the way between processes and machines.
        return _user_error, (self.problem, self.field, self.value)


def _user_error(problem: str, field: str | None, value: object) -> UserError:
    return UserError(problem, field=field, value=value)


class ProcessLost(Exception):
    """One of several processes that train together has ended, or this one cannot continue."""
