"""One way to turn a configuration dataclass into a command.

A workflow calls `run` with its configuration class and its main function. The command then understands
``--config FILE`` (YAML), dotted overrides (``--fold.epochs 3``), ``--print_config`` and ``--help`` with the
docstring of each field. Whatever the user gets wrong ends with exit status 2 and one line on standard error.
"""

import argparse
import dataclasses
import re
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, TypeVar

import yaml
from docstring_parser import parse_from_object
from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

from ser_models.errors import UserError, WorkError

Config = TypeVar("Config")

_SWITCH_VALUES = {"true", "false", "yes", "no", "null"}
_INTEGER = re.compile(r"[+-]?\d+")

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def run(
    main: Callable[[Config], int | None],
    config_class: type[Config],
    *,
    description: str,
    positional: str | None = None,
    argv: Sequence[str] | None = None,
) -> NoReturn:
    """Parse the command line, call ``main`` with the configuration and exit with its status.

    Args:
        main: receives the configuration; returns an exit status, None meaning 0.
        config_class: a dataclass with a docstring under each field.
        description: the first lines of ``--help``.
        positional: a field of type ``list[str]`` that is given as bare arguments.
        argv: the arguments, by default those of the process.
    """
    try:
        config = parse(config_class, argv, description=description, positional=positional)
        status = main(config) or 0
    except UserError as error:
        status = _say(error, 2)
    except WorkError as error:
        status = _say(error, 1)
    except KeyboardInterrupt:
        status = _say("interrupted; finished work is kept", 130)
    sys.stdout.flush()
    sys.exit(status)


def parse(
    config_class: type[Config],
    argv: Sequence[str] | None = None,
    *,
    description: str = "",
    positional: str | None = None,
) -> Config:
    """Build the configuration from the command line, configuration files and defaults.

    Raises:
        UserError: an unknown key, a wrong type, an impossible value or an unreadable file.
    """
    arguments = _as_written_in_full(sys.argv[1:] if argv is None else list(argv), config_class)
    parser = ArgumentParser(
        description=description,
        allow_abbrev=False,
        exit_on_error=False,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the fields below")
    parser.add_class_arguments(config_class, skip={positional} if positional else None)
    if positional:
        parser.add_argument(positional, nargs="+", help=_field_help(config_class, positional))
    try:
        values = parser.instantiate_classes(parser.parse_args(arguments))
        known = {field.name for field in dataclasses.fields(typing.cast(Any, config_class))}
        return config_class(**{key: value for key, value in vars(values).items() if key in known})
    except UserError:
        raise
    except (argparse.ArgumentError, ValueError, TypeError, OSError) as error:
        raise UserError(one_line(error)) from error


def dump(config: Any) -> str:
    """A configuration as YAML, fields in their declared order; ``--config`` reads it back."""
    return str(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True))


def load(config_class: type[Config], path: str | Path) -> Config:
    """Read a configuration from a YAML file, as ``--config`` would.

    Raises:
        UserError: as `parse`.
    """
    return parse(config_class, ["--config", str(path)])


def one_line(message: object) -> str:
    """Fold a message of several lines into one."""
    return " ".join(str(message).split())


def _say(message: object, status: int) -> int:
    print(f"{Path(sys.argv[0]).name}: {one_line(message)}", file=sys.stderr)
    return status


class _HelpFormatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Types and defaults beside each field; the description as it was written."""


def _field_help(config_class: type, name: str) -> str:
    documented = parse_from_object(config_class).params
    return next((field.description or "" for field in documented if field.arg_name == name), "")


def _options(config_class: type, prefix: str = "") -> dict[str, tuple[Any, ...]]:
    """Every option of a configuration class, ``--fold.epochs``, with the types that its value may have."""
    options: dict[str, tuple[Any, ...]] = {}
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kinds = typing.get_args(hints[field.name]) if _is_union(hints[field.name]) else (hints[field.name],)
        options[f"--{prefix}{field.name}"] = kinds
        for kind in kinds:
            if dataclasses.is_dataclass(kind) and isinstance(kind, type):
                options |= _options(kind, f"{prefix}{field.name}.")
    return options


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, UnionType)


def _as_written_in_full(arguments: list[str], config_class: type) -> list[str]:
    """Accept what people type: hyphens, bare switches and lists without brackets.

    ``--allow-partial`` stands for ``--allow_partial true``, ``--protocol.leaks speaker,text`` for
    ``--protocol.leaks [speaker,text]``.
    """
    options = _options(config_class)
    result = []
    waiting = ""  # the option whose value comes next
    for index, argument in enumerate(arguments):
        if not argument.startswith("--"):
            result.append(_bracketed(waiting, argument, options.get(waiting, ())))
            waiting = ""
            continue
        option, equals, value = argument.partition("=")
        option = "--" + option[2:].replace("-", "_")
        kinds = options.get(option, ())
        following = arguments[index + 1].lower() if index + 1 < len(arguments) else ""
        if bool in kinds and not equals and following not in _SWITCH_VALUES:
            equals, value = "=", "true"
        elif equals:
            value = _bracketed(option, value, kinds)
        waiting = "" if equals else option
        result.append(option + equals + value)
    return result


def _bracketed(option: str, value: str, kinds: Sequence[Any]) -> str:
    """The value of an option, a list as YAML writes it.

    Raises:
        UserError: a list of numbers is wanted, and something else is in it.
    """
    if value == "null" or not any(typing.get_origin(kind) is list for kind in kinds):
        return value
    inside = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    items = [item.strip() for item in inside.split(",")] if inside.strip() else []
    if list[int] in kinds and (wrong := [item for item in items if not _INTEGER.fullmatch(item)]):
        raise UserError(f"{option} {value}: {wrong[0]!r} is not a whole number; write a list as 0,1,2")
    return value if value.startswith("[") else f"[{','.join(items)}]"
