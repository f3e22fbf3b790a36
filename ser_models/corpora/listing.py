"""The files of a corpus: one walk over a local folder or an S3 prefix, which every parser shares."""

import dataclasses
import os
import posixpath
from collections.abc import Iterator

from ser_models import places
from ser_models.errors import UserError


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files under a folder.

    Attributes:
        root: URI of the folder.
        paths: paths relative to the root with ``/`` between components, sorted.
        hidden: how many files were left out because a component of their path starts with a dot (macOS
            writes ``._name`` beside each file) or is ``__MACOSX``.
    """

    root: str
    paths: tuple[str, ...]
    hidden: int = 0

    def uri(self, path: str) -> str:
        """The URI of one of the paths."""
        return places.join(self.root, path)


def list_files(root: str) -> Listing:
    """List all files under a folder; links to folders are followed.

    Raises:
        UserError: there is no such folder, it is a file, it holds nothing, it cannot be read, or the path
            of a file is not valid UTF-8.
    """
    root = places.absolute(root)
    found = list(_walk_remote(root) if places.is_remote(root) else _walk_local(root))
    if not found:
        raise UserError(f"{root}: the folder is empty")
    visible = [path for path in found if not _is_hidden(path)]
    for path in visible:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{root}: the name {os.fsencode(path)!r} is not valid UTF-8; rename the file"
            ) from None
    return Listing(root, tuple(sorted(visible)), len(found) - len(visible))


def _walk_local(root: str) -> Iterator[str]:
    if not os.path.exists(root):
        raise UserError(f"{root}: no such folder")
    if not os.path.isdir(root):
        raise UserError(f"{root} is a file; give the folder of the corpus (archives must be unpacked first)")

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}") from error

    entered: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=refuse):
        # A link may lead back to a folder above it.
        if (real := os.path.realpath(folder)) in entered:
            subfolders.clear()
            continue
        entered.add(real)
        subfolders.sort()
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def _walk_remote(root: str) -> Iterator[str]:
    files, path = places.filesystem(root)
    try:
        if files.isfile(path):
            raise UserError(f"{root} is a file; give the folder of the corpus")
        found = files.find(path)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{root}: no such folder") from None
    except Exception as error:  # each cloud library has its own kinds for "no credentials" and "no route"
        raise UserError(f"{root} cannot be listed: {type(error).__name__}: {error}") from error
    if not found:
        raise UserError(f"{root}: no such folder, or nothing is in it")
    for entry in found:
        if not entry.endswith("/"):
            yield posixpath.relpath(entry, path)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))
