"""Class trees, and distances of classes in them: AudioSet's ontology, the rendered monsters, the user's own.

Objects that Sound (retrieval, Table 1) counts the edges between two classes: 0 for the same, 2 for acoustic and
electric guitar, 5 for acoustic guitar and drum. AudioSet's "tree" has classes with several parents; the shortest path
up to a common ancestor and down again counts. Classes without a parent hang from one root.
"""

from __future__ import annotations

import difflib
import graphlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

MONSTERS = Path(__file__).with_name("monsters.json")  # the kinds that `corpora.scenes` renders
INSTRUMENT_ROOTS = ("Musical instrument", "Singing", "Tools")
_ROOT = ""


class ClassTree:
    """A tree of classes, in which a class may have several parents.

    Parameters
    ----------
    parents : dict
        Class -> its parents; () for one at the top.
    names : dict, optional
        Class -> another name of it; AudioSet's classes have both an identifier and a name.

    Raises
    ------
    ValueError
        If a parent isn't a class, a class lies below itself, or two classes share a name.
    """

    def __init__(self, parents: dict[str, Iterable[str]], names: dict[str, str] | None = None):
        self.parents = {key: tuple(above) or (_ROOT,) for key, above in parents.items()} | {_ROOT: ()}
        lost = sorted({above for both in self.parents.values() for above in both} - set(self.parents))
        if lost:
            raise ValueError(f"the class tree names parents that it doesn't have: {', '.join(lost[:5])}")
        try:
            graphlib.TopologicalSorter(self.parents).prepare()
        except graphlib.CycleError as error:
            raise ValueError(f"a class of the tree lies below itself: {' > '.join(error.args[1])}") from None
        self.names = names or {}
        self._keys: dict[str, str] = {}  # by any of its names, in any case
        for key in parents:
            for name in {key.casefold(), self.names.get(key, key).casefold()}:
                if self._keys.setdefault(name, key) != key:
                    raise ValueError(f"two classes of the tree are called {name!r}")

    def __len__(self) -> int:
        return len(self.parents) - 1

    def __contains__(self, label: str) -> bool:
        return label.casefold() in self._keys

    def key(self, label: str) -> str:
        """Return the class that a name or identifier stands for; KeyError if there is none."""
        return self._keys[label.casefold()]

    def check(self, labels: Iterable[str]) -> None:
        """Raise ValueError if labels aren't in the tree; the message lists them, each with the nearest names."""
        unknown = sorted({label for label in labels if label not in self})
        if unknown:
            told = "; ".join(f"{label!r}{self._nearest(label)}" for label in unknown[:10])
            more = f", and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            raise ValueError(f"{len(unknown)} labels aren't in the class tree of {len(self)} classes: {told}{more}")

    def _nearest(self, label: str) -> str:
        near = difflib.get_close_matches(label.casefold(), self._keys, n=3)
        known = ", ".join(self.names.get(self._keys[name], self._keys[name]) for name in near)
        return f" (near: {known})" if near else ""

    def above(self, key: str) -> dict[str, int]:
        """Count the edges up to each ancestor of a class, itself included."""
        steps, reached = {key: 0}, [key]
        for below in reached:
            for parent in self.parents[below]:
                if parent not in steps:
                    steps[parent] = steps[below] + 1
                    reached.append(parent)
        return steps

    def distances(self, labels: list[str]) -> np.ndarray:
        """Count the edges between each pair of labels: (n, n) int; ValueError if a label is unknown."""
        self.check(labels)
        ways = [self.above(self.key(label)) for label in labels]
        column = {key: number for number, key in enumerate(self.parents)}
        up = np.full((len(labels), len(column)), np.inf, np.float32)
        for row, way in zip(up, ways, strict=True):
            row[[column[key] for key in way]] = list(way.values())
        return np.array([(up + row).min(axis=1) for row in up]).astype(int).reshape(len(labels), len(labels))

    def at_or_below(self, labels: Iterable[str]) -> set[str]:
        """Return the classes that the labels name, and all their descendants."""
        labels = list(labels)
        self.check(labels)
        tops = {self.key(label) for label in labels}
        return {key for key in self.parents if tops & set(self.above(key))}


def instrument_classes(tree: ClassTree) -> set[str]:
    """Return the 110 classes of AudioSet-Instruments, given AudioSet's ontology.

    They are Musical instrument, Singing, Tools and all classes below these, including those that AudioSet's released
    labels don't use; without the unused ones there would be 98.
    """
    return tree.at_or_below(INSTRUMENT_ROOTS)


def read_tree(path: Path) -> ClassTree:
    """Read a class tree from a JSON file.

    The file is AudioSet's `ontology.json`, a list of classes with `id`, `name` and `child_ids`; or a tree of the user's
    own: objects whose keys are classes and whose values are the classes below, again as an object or as a list of
    names, such as `{"animals": {"birds": ["crow", "owl"], "pets": ["cat"]}}`. A name in two branches has both parents.

    Raises
    ------
    ValueError
        If the file is neither.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    try:
        return _audioset(content) if isinstance(content, list) else nested_tree(content)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path} is no class tree: neither a list of objects with id, name and child_ids, as AudioSet's "
            "ontology.json, nor nested objects and lists of names"
        ) from None


def _audioset(nodes: list[dict]) -> ClassTree:
    parents: dict[str, list[str]] = {node["id"]: [] for node in nodes}
    for node in nodes:
        for child in node["child_ids"]:
            parents[child].append(node["id"])
    return ClassTree(parents, {node["id"]: node["name"] for node in nodes})


def nested_tree(tree: dict) -> ClassTree:
    """Build a class tree from nested dicts and lists of names."""
    parents: dict[str, list[str]] = {}

    def walk(below, above: list[str]) -> None:
        for name in below:
            if not isinstance(name, str):
                raise TypeError(f"a class must be a name, got {name!r}")
            parents.setdefault(name, []).extend(above)
            if isinstance(below, dict):
                walk(below[name], [name])

    if not isinstance(tree, dict):
        raise TypeError(f"expected a dict of classes, got {type(tree).__name__}")
    walk(tree, [])
    return ClassTree(parents)
