"""A tree of ids in which each key has an order of preference."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from penstock.pools.candidate import Candidate

__all__ = ["Leaf", "Node", "Tree"]

# Draws are 16 bits wide: as many parts as a branch's weight can be told apart in. A side with less
# than half a part gets no keys while the other one is ready.
_PARTS = 1 << 16

_ID_BYTES = 16


class Node:
    """A branch of the tree, or a ``Leaf``.

    Attributes:
        parent: The branch above; None at the root.
        low: The branch of the ids whose next bit is 0.
        high: The branch of the ids whose next bit is 1.
        split: Draws below it go low; negative for a leaf.
        weight: Sum of the weights below.
        live: How many of the two sides have somebody ready; 0 or 1 for a leaf.
        candidate: Who has the leaf's id; None while it is not ready, and for a branch.
    """

    __slots__ = ("candidate", "high", "live", "low", "parent", "split", "weight")

    low: Node
    high: Node

    def __init__(self, split: int = 0) -> None:
        self.parent: Node | None = None
        self.split = split
        self.weight = 0.0
        self.live = 0
        self.candidate: Candidate | None = None


class Leaf(Node):
    """One id.

    Attributes:
        bits: Digest of the id: its path from the root.
        load: Its uses under way, as last told.
    """

    __slots__ = ("bits", "load")

    def __init__(self, name: str, weight: float) -> None:
        super().__init__(split=-1)
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_ID_BYTES).digest()
        self.bits = int.from_bytes(digest, "big")
        self.weight = weight
        self.load = 0


_NOBODY = Node(split=-1)


class Tree:
    """Hierarchical rendezvous hashing of keys over ids.

    Flat rendezvous (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates",
    1998) asks every id. Here the ids stand in a binary tree, each where the bits of its digest
    lead, and a key goes down it: at each branch it draws a side, in proportion to the weights on
    both. The draws depend on the key and the depth alone. So

    - the same ids and weights give the same choices in every process (of one byte order), in
      whatever order the ids were added, which a tree in order of adding would not;
    - somebody who is not ready keeps the place: nobody else's keys move when it leaves or returns;
    - a new id (or weight) moves keys only towards its side: at each of the about ``log2(n)``
      branches above it about half a share.
    """

    __slots__ = ("_root",)

    def __init__(self, leaves: Iterable[Leaf] = ()) -> None:
        self._root: Node = _NOBODY
        for leaf in leaves:
            self.join(leaf)
            if leaf.candidate is not None:
                self.show(leaf, leaf.candidate)

    def first(self, digest: bytes) -> Node:
        """Return the leaf that a key prefers, ready or not; the tree is not empty."""
        node = self._root
        while True:
            for draw in memoryview(digest).cast("H"):
                split = node.split
                if split < 0:
                    return node
                node = node.low if draw < split else node.high
            digest = blake2b(digest).digest()

    def ready(self, digest: bytes) -> Candidate | None:
        """Return whom a key prefers of those that are ready; None where nobody is."""
        node = self._root
        while True:
            for draw in memoryview(digest).cast("H"):
                split = node.split
                if split < 0:
                    return node.candidate
                if node.live > 1:
                    node = node.low if draw < split else node.high
                else:
                    low = node.low
                    node = low if low.live else node.high
            digest = blake2b(digest).digest()

    def join(self, leaf: Leaf) -> None:
        """Take in an id that is not there."""
        leaf.live = 0
        node, above, mask = self._root, None, 1 << (8 * _ID_BYTES)
        while node.split >= 0:
            mask >>= 1
            above, node = node, node.high if leaf.bits & mask else node.low
        while isinstance(node, Leaf):
            # Both want this place: they go down side by side until their bits differ.
            branch = Node()
            self._put(above, branch, leaf.bits & mask)
            mask >>= 1
            branch.low, branch.high = (_NOBODY, node) if node.bits & mask else (node, _NOBODY)
            node.parent, branch.live = branch, int(node.live > 0)
            above, node = branch, branch.high if leaf.bits & mask else branch.low
        self._put(above, leaf, leaf.bits & mask)
        self.weigh(leaf)

    def _put(self, above: Node | None, node: Node, side: int) -> None:
        node.parent = above
        if above is None:
            self._root = node
        elif side:
            above.high = node
        else:
            above.low = node

    def weigh(self, leaf: Leaf) -> None:
        """Let a leaf's weight count."""
        node = leaf.parent
        while node is not None:
            low, high = node.low.weight, node.high.weight
            node.weight = low + high
            node.split = round(_PARTS * low / node.weight)
            node = node.parent

    def show(self, leaf: Leaf, candidate: Candidate | None) -> None:
        """Make a leaf ready, or not for None; it was not so before."""
        leaf.candidate = candidate
        leaf.live = 0 if candidate is None else 1
        step = 1 if candidate is not None else -1
        node = leaf.parent
        while node is not None:
            node.live += step
            # Further up nothing changes once the other side is ready too, or still is.
            if node.live != (step > 0):
                return
            node = node.parent
