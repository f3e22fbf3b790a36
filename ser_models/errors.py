"""The two ways a command can end badly, told apart so that the exit status means something."""


class UserError(ValueError):
    """The command, the configuration or the input is wrong: exit status 2.

    The message says what was given, what is allowed and how to mend it; no traceback is shown.
    """


class WorkError(RuntimeError):
    """The request was sound but the work failed, wholly or in part: exit status 1."""
