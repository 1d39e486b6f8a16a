"""What happened, told from views: each change once, with what was done to the node that lost something."""

from glasslog.chaos.run.chronicle import Chronicle
from glasslog.chaos.scenario.targets import ClusterView, Node, Placed
from glasslog.common.ids import TopicPartition

NODES = tuple(Node(name=f"broker-{number}", node_id=number, role="broker") for number in (1, 2, 3)) + tuple(
    Node(name=f"controller-{number}", node_id=100 + number, role="controller") for number in (1, 2)
)


def view(leader: int, isr: tuple[int, ...], *, epoch: int, controller: int = 101) -> ClusterView:
    placed = Placed(leader=leader, replicas=(1, 2, 3), isr=isr, leader_epoch=epoch, partition_epoch=epoch)
    return ClusterView(nodes=NODES, partitions={TopicPartition("orders", 0): placed}, controller=controller)


def test_a_leaders_death_is_the_reason_of_what_follows() -> None:
    chronicle = Chronicle()
    chronicle.observe(view(2, (1, 2, 3), epoch=0), 0)
    number = chronicle.begun("kill broker-2", ["broker-2"], 1000)
    chronicle.observe(view(1, (1, 3), epoch=1), 1200)
    chronicle.observe(view(1, (1, 3), epoch=1), 1300)
    chronicle.ended(number, "broker-2: kill is over", 4000)
    chronicle.observe(view(1, (1, 2, 3), epoch=2), 5000)
    assert [(event.at_ms, event.kind, event.text) for event in chronicle.events] == [
        (1000, "fault", "kill broker-2"),
        (1200, "leader", "orders-0: leader broker-2 -> broker-1 (epoch 1); 0.20 s into: kill broker-2"),
        (1200, "isr", "orders-0: ISR loses broker-2, has 2; 0.20 s into: kill broker-2"),
        (4000, "healed", "broker-2: kill is over"),
        (5000, "leader", "orders-0: leader broker-1 again (epoch 2)"),
        (5000, "isr", "orders-0: ISR regains broker-2, has 3"),
    ]
    assert [(state.at_ms, state.leader) for state in chronicle.states["orders-0"]] == [
        (0, 2),
        (1200, 1),
        (5000, 1),
    ]


def test_a_broker_that_learns_late_tells_no_news() -> None:
    """Any broker may answer, and one that had not heard of an election yet made leaders jump to and fro."""
    chronicle = Chronicle()
    chronicle.observe(view(2, (1, 2, 3), epoch=0), 0)
    chronicle.observe(view(1, (1, 3), epoch=1), 100)
    told = len(chronicle.events)
    chronicle.observe(view(2, (1, 2, 3), epoch=0, controller=-1), 200)
    assert len(chronicle.events) == told
    assert chronicle.view is not None
    assert chronicle.view.partitions[TopicPartition("orders", 0)].leader == 1
    assert chronicle.view.controller == 101


def test_a_change_of_the_controller_is_told_with_its_reason() -> None:
    chronicle = Chronicle()
    chronicle.observe(view(2, (1, 2, 3), epoch=0), 0)
    chronicle.ended(chronicle.begun("pause controller-1", ["controller-1"], 500), "over", 800)
    chronicle.observe(view(2, (1, 2, 3), epoch=0, controller=102), 1000)
    assert chronicle.events[-1].text == (
        "active controller: controller-1 -> controller-2; 0.20 s after the end of: pause controller-1"
    )
    assert chronicle.controllers == [(0, 101), (1000, 102)]
