"""A directed graph with labelled edges, and its cycles, in time that grows with nodes and edges.

Refuses to know what nodes and labels mean. Nodes are numbers from 0.
"""

from collections import deque
from collections.abc import Iterator, Sequence

_MAX_SHORTEST_SEARCHES = 64
"""In one knot of cycles so many edges are tried for the shortest cycle; any one would do as a proof."""


class Graph:
    """``add`` nodes, ``link`` them, then look for ``knots``."""

    def __init__(self, nodes: int = 0) -> None:
        self._edges: list[dict[int, str]] = [{} for _ in range(nodes)]

    def add(self) -> int:
        self._edges.append({})
        return len(self._edges) - 1

    def link(self, source: int, target: int, label: str) -> None:
        """The first label of an edge stays."""
        self._edges[source].setdefault(target, label)

    def label(self, source: int, target: int) -> str:
        return self._edges[source][target]

    def knots(self) -> list[list[int]]:
        """The strongly connected parts with more than one node, each in ascending order."""
        left = self._without_ends()
        return sorted(sorted(part) for part in self._parts(left) if len(part) > 1)

    def cycle(self, knot: Sequence[int], *, label: str) -> list[int]:
        """A short cycle of a knot with an edge of that label; empty if the knot has no such edge.

        The first node is the one where that edge starts.
        """
        inside = frozenset(knot)
        best: list[int] = []
        for tried, (source, target) in enumerate(self._labelled(knot, inside, label)):
            path = self._path(target, source, inside)
            if not best or len(path) < len(best):
                best = path
            if tried >= _MAX_SHORTEST_SEARCHES or len(best) == 2:
                break
        return [*best[-1:], *best[:-1]]

    def _labelled(self, knot: Sequence[int], inside: frozenset[int], label: str) -> Iterator[tuple[int, int]]:
        for source in knot:
            for target, found in self._edges[source].items():
                if found == label and target in inside:
                    yield source, target

    def _path(self, source: int, target: int, inside: frozenset[int]) -> list[int]:
        """The shortest way from one node of a knot to another."""
        came_from = {source: source}
        queue = deque([source])
        while target not in came_from:
            node = queue.popleft()
            for following in self._edges[node]:
                if following in inside and following not in came_from:
                    came_from[following] = node
                    queue.append(following)
        path = [target]
        while path[-1] != source:
            path.append(came_from[path[-1]])
        return path[::-1]

    def _without_ends(self) -> list[bool]:
        """Which nodes are left when what nothing leads to is taken away, over and over: nearly none."""
        incoming = [0] * len(self._edges)
        for targets in self._edges:
            for target in targets:
                incoming[target] += 1
        left = [True] * len(self._edges)
        bare = [node for node, count in enumerate(incoming) if not count]
        while bare:
            node = bare.pop()
            left[node] = False
            for target in self._edges[node]:
                incoming[target] -= 1
                if not incoming[target]:
                    bare.append(target)
        return left

    def _parts(self, left: Sequence[bool]) -> Iterator[list[int]]:
        """Tarjan's strongly connected components of what is left, without recursion."""
        number: dict[int, int] = {}
        lowest: dict[int, int] = {}
        stack: list[int] = []
        on_stack: set[int] = set()
        for root in range(len(self._edges)):
            if not left[root] or root in number:
                continue
            work = [(root, iter(self._edges[root]))]
            number[root] = lowest[root] = len(number)
            stack.append(root)
            on_stack.add(root)
            while work:
                node, targets = work[-1]
                for target in targets:
                    if target not in number:
                        number[target] = lowest[target] = len(number)
                        stack.append(target)
                        on_stack.add(target)
                        work.append((target, iter(self._edges[target])))
                        break
                    if target in on_stack:
                        lowest[node] = min(lowest[node], number[target])
                else:
                    work.pop()
                    if work:
                        parent = work[-1][0]
                        lowest[parent] = min(lowest[parent], lowest[node])
                    if lowest[node] == number[node]:
                        yield _pop_until(node, stack, on_stack)


def _pop_until(node: int, stack: list[int], on_stack: set[int]) -> list[int]:
    part: list[int] = []
    while True:
        part.append(stack.pop())
        on_stack.discard(part[-1])
        if part[-1] == node:
            return part
