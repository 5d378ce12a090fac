"""Sticky: calls with the same key go to the same resource."""

from __future__ import annotations

from hashlib import blake2b

from penstock.pools.candidate import Candidate
from penstock.pools.picking.base import Picker
from penstock.pools.picking.least_in_flight import LeastInFlight
from penstock.pools.picking.tree import Leaf, Node, Tree

__all__ = ["LOAD_FACTOR", "Sticky"]

# Nobody serves more than 1.25 times the mean: the value Vimeo and HAProxy run with. Less of it
# moves more keys, more of it overloads the one with the busiest key.
LOAD_FACTOR = 1.25

# Ids that have not been ready for long may never be again: a pool of proxies sees new ones all the
# time. Forgotten are those that are not ready, once they are this many times as many as the ready.
_FORGET_AT = 8
_FORGET_FROM = 64

# Keys come again, and the way down a tree of ten thousand costs as much as the rest of a call. With
# keys of ordinary length these are less than a megabyte.
_MOST_REMEMBERED = 4096

# Not the digest of the digest: with that the tree goes on below its first 32 branches.
_SECOND = b"second"


class Sticky(Picker):
    """Serves each key with the same candidate while that is ready and not overloaded.

    Keys are spread over the ids by rendezvous hashing in a tree, see ``Tree``. Loads are bounded
    (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016): whoever has
    1.25 times the mean of uses under way, and at least one more than the mean, is passed over.

    A key that cannot have its first choice takes a second, drawn anew among the ready, so that the
    keys of one who leaves spread over all the others; after that, and without a key, the call goes
    to the least in flight, who is never overloaded.
    """

    __slots__ = ("_any", "_homes", "_leaves", "_load", "_ready", "_tree")

    def __init__(self) -> None:
        self._any = LeastInFlight()
        self._tree = Tree()
        self._leaves: dict[str, Leaf] = {}
        # Each key's first choice, ready or not, as the tree has it at present.
        self._homes: dict[str, Node] = {}
        self._ready = 0
        self._load = 0

    def add(self, candidate: Candidate) -> None:
        """Give it its place in the tree."""
        leaf = self._leaves.get(candidate.id) or self._leaf_for(candidate)
        candidate.place = leaf
        self._ready += 1
        self._tree.show(leaf, candidate)
        self._any.add(candidate)
        self.used(candidate)
        self.rated(candidate)

    def remove(self, candidate: Candidate) -> None:
        """Keep its place, without it."""
        leaf: Leaf = candidate.place
        self._ready -= 1
        self._load -= leaf.load
        leaf.load = 0
        self._tree.show(leaf, None)
        self._any.remove(candidate)

    def pick(self, key: str | None, now: float) -> Candidate | None:
        """Return the key's candidate."""
        if key is None or not self._ready:
            return self._any.pick(key, now)
        count, load = self._ready, self._load
        most = max(load + count, LOAD_FACTOR * load)
        home = self._homes.get(key) or self._home_of(key)
        candidate = home.candidate
        if candidate is not None and candidate.in_flight * count < most:
            return candidate
        candidate = self._tree.ready(blake2b(_SECOND + _digest_of(key)).digest())
        if candidate is not None and candidate.in_flight * count < most:
            return candidate
        return self._any.pick(key, now)

    def used(self, candidate: Candidate) -> None:
        """Count its load."""
        leaf: Leaf = candidate.place
        self._load += candidate.in_flight - leaf.load
        leaf.load = candidate.in_flight

    def freed(self, candidate: Candidate) -> None:
        """Count its load."""
        self.used(candidate)
        self._any.freed(candidate)

    def rated(self, candidate: Candidate) -> None:
        """Give it keys in proportion to a new weight."""
        leaf: Leaf = candidate.place
        if leaf.weight != candidate.weight:
            leaf.weight = candidate.weight
            self._homes.clear()
            self._tree.weigh(leaf)

    def _leaf_for(self, candidate: Candidate) -> Leaf:
        if len(self._leaves) > _FORGET_FROM + _FORGET_AT * self._ready:
            self._leaves = {name: leaf for name, leaf in self._leaves.items() if leaf.live}
            self._tree = Tree(self._leaves.values())
        leaf = self._leaves[candidate.id] = Leaf(candidate.id, candidate.weight)
        self._homes.clear()
        self._tree.join(leaf)
        return leaf

    def _home_of(self, key: str) -> Node:
        if len(self._homes) >= _MOST_REMEMBERED:
            self._homes.clear()
        home = self._homes[key] = self._tree.first(_digest_of(key))
        return home


def _digest_of(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass")).digest()
