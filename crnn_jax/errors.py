"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """Something in the input is wrong; the message names it and the mend, in one line.

    The command line prints it without a traceback and exits with code 2. Every other exception
    is a bug and keeps its traceback.
    """
