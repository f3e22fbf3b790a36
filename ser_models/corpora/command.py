"""What the commands of this package share: one line per mistake, and what the exit status means."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from ser_models.errors import UserError, WorkError


class ArgumentParser(argparse.ArgumentParser):
    """argparse whose complaints are one line, without the usage above them."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving.

        Raises:
            UserError: always.
        """
        raise UserError(f"{message} (see --help)")


def run(main: Callable[[], int], program: str) -> NoReturn:
    """Run a command and exit: with its own status, 2 for a `UserError`, 1 for a `WorkError`."""
    try:
        status = main()
        sys.stdout.flush()
    except (UserError, WorkError) as error:
        print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
        status = 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
