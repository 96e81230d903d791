"""A YAML document with the place of every key and value, so that each later mistake can be shown where it is made."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from vnet.errors import LabError

__all__ = ["Key", "Path", "Tree", "did_you_mean", "read_yaml"]

Key = str | int
Path = tuple[Key, ...]

# Aliases can make a small file stand for an enormous document; a lab that people wrote stays far below this.
MOST_VALUES = 1_000_000

_PREFIX = "tag:yaml.org,2002:"


@dataclass
class Tree:
    """What one YAML document says, and where.

    Attributes:
        file: the file's name as the user gave it.
        data: the document as plain dictionaries, lists and scalars.
        keys: where the key (or list item) of a path begins, as line and column from 1.
        values: where its value begins.
    """

    file: str
    data: Any = None
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def resolve(self, path: Iterable[Key]) -> Path:
        """The longest part of ``path`` that the document has; steps that it lacks (a model's own) are left out."""
        found: Path = ()
        for key in path:
            if (*found, key) in self.values:
                found = (*found, key)
        return found

    def error(self, message: str, path: Iterable[Key], *, at_key: bool = False) -> LabError:
        """The error that shows ``message`` at the place of ``path``, at its key or (usually) its value."""
        found = self.resolve(path)
        line, column = (self.keys if at_key else self.values).get(found, (0, 0))
        return LabError(message, file=self.file, line=line, column=column, key=dotted(found))


def dotted(path: Path) -> str:
    """``("steps", 0, "ping")`` as ``steps[0].ping``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'alice'?)"`` for the closest of ``known``, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def read_yaml(text: str, file: str) -> Tree:
    """Read one YAML document.

    Raises:
        LabError: it is not YAML, empty, more than one document, or has a key twice in one mapping.
    """
    tree = Tree(file)
    try:
        yaml = YAML(typ="safe", pure=True)
        root = yaml.compose(text)
        if root is None:
            raise LabError("the file is empty; expected a lab with 'networks' and 'nodes'", file=file)
        tree.data = _Reader(tree, yaml.constructor)((), root)
    except MarkedYAMLError as error:
        raise _not_yaml(error, file) from None
    except YAMLError as error:
        raise LabError(f"not YAML: {' '.join(str(error).split())}", file=file) from None
    except RecursionError:
        raise LabError("lists and mappings are nested too deeply", file=file) from None
    return tree


def _not_yaml(error: MarkedYAMLError, file: str) -> LabError:
    mark = error.problem_mark or error.context_mark
    what = " ".join(part for part in (error.context, error.problem) if part)
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    return LabError(f"not YAML: {' '.join(what.split())}", file=file, line=line, column=column)


class _Reader:
    """Turns composed YAML nodes into plain data and notes the places in ``tree``."""

    def __init__(self, tree: Tree, scalars: SafeConstructor) -> None:
        self.tree = tree
        self.scalars = scalars
        self.count = 0
        self.open: set[int] = set()  # nodes on the way down: an alias to one of them would never end

    def __call__(self, path: Path, node: Node) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        if node.start_mark.index == node.end_mark.index:
            # YAML says that an empty value begins where the next token does, which may be lines away.
            place = self.tree.keys.get(path, place)
        self.tree.values[path] = place
        self.tree.keys.setdefault(path, place)
        self.count += 1
        if self.count > MOST_VALUES:
            raise self.tree.error(f"the lab holds more than {MOST_VALUES:,} values once its aliases are followed", path)
        if isinstance(node, ScalarNode):
            return self._scalar(path, node)
        if id(node) in self.open:
            raise self.tree.error("an alias that contains itself", path)
        self.open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                self._plain(path, node, "seq")
                return [self((*path, i), item) for i, item in enumerate(node.value)]
            if isinstance(node, MappingNode):
                self._plain(path, node, "map")
                return self._mapping(path, node)
        finally:
            self.open.discard(id(node))
        raise self.tree.error("expected a value", path)

    def _mapping(self, path: Path, node: MappingNode) -> dict[str, Any]:
        said: dict[str, Any] = {}
        merged: list[tuple[Path, Node]] = []
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            place = (mark.line + 1, mark.column + 1)
            if str(key_node.tag) == _PREFIX + "merge":
                several = isinstance(value_node, SequenceNode)
                merged += [(path, part) for part in (value_node.value if several else [value_node])]
                continue
            if not isinstance(key_node, ScalarNode) or str(key_node.tag) != _PREFIX + "str":
                shown = f'; write it in quotes: "{key_node.value}"' if isinstance(key_node, ScalarNode) else ""
                raise self._at("expected a name as key" + shown, path, place)
            key = str(key_node.value)
            here = (*path, key)
            if key in said:
                first = self.tree.keys[here][0]
                raise self._at(f"the key {key!r} is here twice; the first is in line {first}", here, place)
            self.tree.keys[here] = place
            said[key] = self(here, value_node)
        for _, part in merged:
            if not isinstance(part, MappingNode) or id(part) in self.open:
                raise self.tree.error("'<<' expects a mapping, or a list of mappings", path)
            self._merge(path, part, said)
        return said

    def _merge(self, path: Path, part: MappingNode, said: dict[str, Any]) -> None:
        for key, value in _Reader(Tree(self.tree.file), self.scalars)((), part).items():
            if key not in said:
                said[key] = value
                _note_all(self.tree, (*path, key), value, self.tree.values[path])

    def _scalar(self, path: Path, node: ScalarNode) -> Any:
        kind = str(node.tag).removeprefix(_PREFIX)
        makers: dict[str, Callable[[ScalarNode], Any]] = {
            "null": self.scalars.construct_yaml_null,
            "bool": self.scalars.construct_yaml_bool,
            "int": self.scalars.construct_yaml_int,
            "float": self.scalars.construct_yaml_float,
        }
        if kind in makers:
            try:
                return makers[kind](node)
            except (ConstructorError, ValueError, KeyError):
                raise self.tree.error(f"{node.value!r} is not a YAML {kind}", path) from None
        if kind in ("str", "timestamp"):
            return str(node.value)
        raise self.tree.error(f"the YAML tag {str(node.tag)!r} means nothing in a lab", path)

    def _plain(self, path: Path, node: Node, kind: str) -> None:
        if str(node.tag) != _PREFIX + kind:
            raise self.tree.error(f"the YAML tag {str(node.tag)!r} means nothing in a lab", path)

    def _at(self, message: str, path: Path, place: tuple[int, int]) -> LabError:
        return LabError(message, file=self.tree.file, line=place[0], column=place[1], key=dotted(path))


def _note_all(tree: Tree, path: Path, value: Any, place: tuple[int, int]) -> None:
    tree.values[path] = place
    tree.keys.setdefault(path, place)
    children: Iterable[tuple[Key, Any]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        _note_all(tree, (*path, key), child, place)
