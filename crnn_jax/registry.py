"""Registries: every module in a folder is an entry, imported when it is looked up.

A new architecture or data set is one new file; nothing else refers to it.
"""

import importlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Generic, TypeVar, cast

from crnn_jax.errors import UserError

EntryT = TypeVar("EntryT")


def module_names(package: str, *, without: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names of the modules in a folder of this package, in alphabetical order.

    Nothing is imported.

    Parameters
    ----------
    package
        Dotted name within ``crnn_jax``, such as ``models``.
    without
        Modules of the folder that are not entries. Names with a leading underscore never are.
    """
    folder = Path(__file__).parent.joinpath(*package.split("."))
    names = (path.stem for path in folder.glob("[!_]*.py"))
    return tuple(sorted(set(names) - set(without)))


class Registry(Generic[EntryT]):
    """Entries by name: an attribute of each module of a folder.

    Parameters
    ----------
    kind
        What an entry is called in messages, such as ``architecture``.
    field
        Configuration field that names an entry, for messages.
    package
        Dotted name of the folder within ``crnn_jax``.
    attribute
        Name of the entry in its module.
    without
        See `module_names`.
    """

    def __init__(
        self,
        kind: str,
        *,
        field: str,
        package: str,
        attribute: str,
        without: Collection[str] = (),
    ):
        self.kind = kind
        self.field = field
        self._package = package
        self._attribute = attribute
        self._names = module_names(package, without=without)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> EntryT:
        """Import the entry of a name.

        Raises
        ------
        UserError
            If there is none.
        """
        if name not in self._names:
            raise UserError(
                f"no such {self.kind}; give one of {', '.join(self)}", field=self.field, value=name
            )
        module = importlib.import_module(f"crnn_jax.{self._package}.{name}")
        return cast(EntryT, getattr(module, self._attribute))
