"""Whom to ask next for the active controller: the sans-I/O core of ``controller_channel``.

Knows the voters, the newest hint about their leader, and who failed; refuses to know how a question travels
and what is asked.
"""

from collections.abc import Sequence

from glasslog.common.addresses import Voter
from glasslog.common.errors import ConfigError
from glasslog.common.ids import NO_NODE, NodeId

_UNKNOWN_EPOCH = -1
_MAX_CONTROLLERS = 100


class ControllerFinder:
    """``candidate`` is the hinted leader, or else the voter whose turn it is.

    Hints carry the quorum's epoch, so that a late one never overrides a newer. ``first`` says with which
    voter the turn starts; spread it over brokers.
    """

    def __init__(self, voters: Sequence[Voter], *, first: int = 0) -> None:
        if not voters:
            raise ConfigError(
                "controller.quorum.voters and controller.quorum.bootstrap.servers are empty: "
                "a broker needs at least one controller"
            )
        self._settings = self._voters = tuple(voters)
        self._turn = first % len(self._voters)
        self._leader = NO_NODE
        self._epoch = _UNKNOWN_EPOCH

    @property
    def voters(self) -> tuple[Voter, ...]:
        return self._voters

    @property
    def leader_id(self) -> NodeId:
        """The active controller as far as it is known, ``NO_NODE`` if not."""
        return self._leader

    @property
    def epoch(self) -> int:
        """The newest quorum epoch heard of, -1 for none."""
        return self._epoch

    @property
    def candidate(self) -> Voter:
        return self._voters[self._turn]

    def on_leader(self, *, leader_id: NodeId, epoch: int, address: str = "") -> bool:
        """Take a hint; returns whether whom to ask has changed. ``NO_NODE`` in a newer epoch unlearns.

        With an ``address`` it may be a controller that nobody named before: voters come and go.
        """
        if epoch < self._epoch or (epoch == self._epoch and leader_id in (NO_NODE, self._leader)):
            return False
        self._epoch = epoch
        self._learn(leader_id, address)
        position = self._position(leader_id)
        if position is None:
            # Nobody leads the new epoch yet, or a node we have no address for: keep asking around.
            self._leader = NO_NODE
            return False
        changed = self._leader != leader_id
        self._leader, self._turn = leader_id, position
        return changed

    def on_voters(self, voters: Sequence[Voter]) -> None:
        """The metadata log names these: they are asked, and then whom settings name besides.

        Whoever's turn it is keeps it: a leader that was removed goes on until that is committed.
        """
        candidate = self.candidate
        named = {voter.address: voter for voter in voters if voter.address}
        ids = {voter.node_id for voter in named.values()}
        for voter in (*self._settings, candidate):
            if voter.node_id not in ids:
                named.setdefault(voter.address, voter)
                ids.add(voter.node_id)
        self._voters = tuple(named.values())
        self._turn = next(
            (index for index, voter in enumerate(self._voters) if voter.address == candidate.address), 0
        )
        if self._leader != self.candidate.node_id:
            self._leader = NO_NODE

    def on_success(self, voter: Voter) -> bool:
        """``voter`` answered as only the active controller does; returns whether that is news."""
        if voter != self.candidate or self._leader == voter.node_id:
            return False
        self._leader = NodeId(voter.node_id)
        return True

    def on_failure(self, voter: Voter) -> None:
        """``voter`` can not be reached or does not lead: the next one's turn, unless it is that already."""
        if voter != self.candidate:
            return
        self._leader = NO_NODE
        self._turn = (self._turn + 1) % len(self._voters)

    def _learn(self, node_id: NodeId, address: str) -> None:
        known = next((voter for voter in self._voters if voter.node_id == node_id), None)
        if node_id == NO_NODE or not address or (known is not None and known.address == address):
            return
        others = tuple(voter for voter in self._voters if voter.node_id != node_id)
        self._voters = (*others[-_MAX_CONTROLLERS + 1 :], Voter(node_id=node_id, address=address))
        self._turn %= len(self._voters)

    def _position(self, node_id: NodeId) -> int | None:
        return next((index for index, voter in enumerate(self._voters) if voter.node_id == node_id), None)


class Backoff:
    """How long to pause between attempts: nothing while others remain to be asked, then doubling.

    ``voters`` attempts make a round; after each round the pause is drawn between half and all of a bound that
    grows from ``first_ms`` to ``last_ms``.
    """

    def __init__(self, *, voters: int, first_ms: int = 50, last_ms: int = 500) -> None:
        self._voters = voters
        self._first_ms = first_ms
        self._last_ms = last_ms
        self._attempts = 0
        self._bound_ms = first_ms

    def reset(self) -> None:
        self._attempts = 0
        self._bound_ms = self._first_ms

    def next_bound_ms(self) -> int:
        """The upper bound of the pause before the next attempt, in ms; 0: ask the next voter at once."""
        self._attempts += 1
        if self._attempts % self._voters:
            return 0
        bound_ms = self._bound_ms
        self._bound_ms = min(bound_ms * 2, self._last_ms)
        return bound_ms
