"""Two exceptions that the command line tells in one line."""


class UserError(Exception):
    """Something in the input is wrong; the message names it and the mend, in one line.

    The command line prints it without a traceback and exits with code 2. Every other exception
    is a bug and keeps its traceback.
    """


class ProcessLost(Exception):
    """One of several processes that train together has ended, or this one cannot go on."""
