"""What the command line tells in one line."""

import errno
import tokenize

# What a disk says when it cannot be written to, has no such name, or has no locks (Lustre and NFS
# mounted without them): the user's to mend, wherever it comes up.
DISK_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
        *(errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP),
    }
)


# What NumPy raises of a .npy file that is none: its parser of the header lets some of it through,
# and a damaged header may tell of any shape.
ARRAY_ERRORS = (ValueError, TypeError, OverflowError, MemoryError, EOFError, tokenize.TokenError)


class UserError(Exception):
    """Something in the input is wrong; the message names it and the mend, in one line.

    The command line prints it without a traceback and exits with code 2. Every other exception
    is a bug and keeps its traceback.
    """


class ProcessLost(Exception):
    """One of several processes that train together has ended, or this one cannot go on."""
