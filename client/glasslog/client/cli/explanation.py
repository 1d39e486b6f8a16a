"""Why a partition is as it is, in sentences: from what its leader and the metadata say. Pure.

Refuses to know how that was found out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glasslog.client.admin import PartitionDescription
from glasslog.client.cluster import BrokerView
from glasslog.client.replication import FollowerDescription, ReplicationDescription
from glasslog.common.ids import NodeId

_MS_A_SECOND, _MS_A_MINUTE, _MS_AN_HOUR, _MS_A_DAY = 1_000, 60_000, 3_600_000, 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a partition. ``view`` is its leader's, if there is one; ``brokers`` live."""

    name: str
    partition: PartitionDescription
    brokers: Mapping[NodeId, BrokerView]
    view: ReplicationDescription | None


def explained(known: Known) -> list[str]:
    """Sentences: who leads and why, who is in sync, what is kept, what waits."""
    view = known.view
    if view is None:
        return _leaderless(known)
    return [*_leadership(known, view), *_moves(known), *_in_sync(known, view), *_kept(view), *_waits(view)]


def _leaderless(known: Known) -> list[str]:
    partition = known.partition
    candidates = partition.isr or partition.elr
    told = [f"Nobody leads {known.name}: nothing can be written or read."]
    if candidates:
        kind = "in sync" if partition.isr else "eligible (ELR)"
        told.append(
            f"Only {_brokers(candidates)} was {kind} when it lost its leader, and may lead without losing "
            "records that were acknowledged."
        )
    told += [
        f"Broker {node} {'is alive' if node in known.brokers else 'is down'}." for node in partition.replicas
    ]
    others = [node for node in partition.replicas if node in known.brokers and node not in candidates]
    if others:
        told.append(
            f"By `glasslog partition elect --unclean {known.name}` {_brokers(others)} could lead at once, "
            "and what only the others have would be lost."
        )
    return told


# --- who leads --------------------------------------------------------------------------------------------


def _leadership(known: Known, view: ReplicationDescription) -> list[str]:
    broker = known.brokers.get(view.leader)
    rack = f" on {broker.rack}" if broker is not None and broker.rack else ""
    span = _span(view.leading_for_ms)
    told = [f"Broker {view.leader}{rack} leads {known.name} for {span}, in leader epoch {view.leader_epoch}."]
    preferred = known.partition.replicas[0]
    if view.leader == preferred:
        told.append(
            f"It is the preferred leader, the first of the replicas {_set(known.partition.replicas)}."
        )
    else:
        told.append(f"The preferred leader is broker {preferred}: {_why_not(known, view, preferred)}.")
    if view.leader_epoch == 0:
        told.append("It is the only leader the partition has had.")
    return told


def _why_not(known: Known, view: ReplicationDescription, preferred: NodeId) -> str:
    if preferred not in known.brokers:
        return f"it is down, so broker {view.leader} was elected from the ISR"
    if preferred not in view.isr:
        return "it is alive again, but not in sync yet"
    return f"it is in sync again, and leads once it is elected (`glasslog partition elect {known.name}`)"


def _moves(known: Known) -> list[str]:
    adding, removing = known.partition.adding_replicas, known.partition.removing_replicas
    if not adding and not removing:
        return []
    told = [f"{_names(adding)} to be added"] if adding else []
    told += [f"{_names(removing)} to be removed once the others are in sync"] if removing else []
    return [f"It is being moved: {', '.join(told)}."]


def _names(nodes: Sequence[int]) -> str:
    many = "brokers" if len(nodes) > 1 else "broker"
    return f"{many} {', '.join(map(str, nodes))} {'are' if len(nodes) > 1 else 'is'}"


# --- who is in sync ---------------------------------------------------------------------------------------


def _in_sync(known: Known, view: ReplicationDescription) -> list[str]:
    count = len(known.partition.replicas)
    if len(view.isr) < count:
        told = [f"In sync: {len(view.isr)} of {count} replicas, ISR {_set(view.isr)}."]
    else:
        told = ["It has no other replica." if count == 1 else f"All {count} replicas are in sync."]
    told += [text for each in view.followers if (text := _behind(view, each))]
    for node in view.joining:
        told.append(f"The controllers are asked to let broker {node} into the ISR.")
    for node in view.leaving:
        told.append(f"The controllers are asked to take broker {node} out of the ISR: it lags.")
    return [*told, *_enough(view)]


def _enough(view: ReplicationDescription) -> list[str]:
    least = view.min_insync_replicas
    if len(view.isr) < least:
        return [
            f"acks=all is refused (NOT_ENOUGH_REPLICAS) and nothing more is committed: ISR {_set(view.isr)} "
            f"is smaller than min.insync.replicas {least}."
        ]
    if len(view.isr) == least and least > 1:
        return [f"min.insync.replicas is {least}: if one more falls behind, acks=all is refused."]
    return []


def _behind(view: ReplicationDescription, each: FollowerDescription) -> str:
    lag = None if each.log_end_offset is None else max(0, view.log_end_offset - each.log_end_offset)
    if each.in_isr:
        return f"Broker {each.broker_id} is {_records(lag)} behind{_caught_up(each)}." if lag else ""
    return f"Broker {each.broker_id} is out of the ISR: {_why_out(view, each, lag)}."


def _why_out(view: ReplicationDescription, each: FollowerDescription, lag: int | None) -> str:
    if not each.is_active:
        ago = each.fetched_ms_ago
        since = f"has not fetched since broker {view.leader} leads"
        return f"it is down, and {since if ago is None else f'fetched last {_span(ago)} ago'}"
    if lag is None:
        return f"it is alive, but has not fetched from broker {view.leader} yet"
    if lag:
        return f"it is catching up, {_records(lag)} behind{_caught_up(each)}"
    return "it has everything, and is about to be let in"


def _caught_up(each: FollowerDescription) -> str:
    ago = each.caught_up_ms_ago
    return "" if ago is None else f", and last had everything {_span(ago)} ago"


# --- what is kept and what waits --------------------------------------------------------------------------


def _kept(view: ReplicationDescription) -> list[str]:
    kept = view.log_end_offset - view.log_start_offset
    if not kept:
        return [f"It holds no records; the next one gets offset {view.log_end_offset}."]
    told = f"It holds {_records(kept)}, offsets {view.log_start_offset} to {view.log_end_offset - 1}"
    uncommitted = view.log_end_offset - view.high_watermark
    if not uncommitted:
        return [f"{told}, all of them committed."]
    return [
        f"{told}; consumers see those below {view.high_watermark} (the high watermark), "
        f"{_records(uncommitted)} {'is' if uncommitted == 1 else 'are'} not on all of the ISR yet."
    ]


def _waits(view: ReplicationDescription) -> list[str]:
    told = [_waiting_produces(view)] if view.waiting_produces else []
    if view.waiting_consumer_fetches:
        waiting = _waiting(view.waiting_consumer_fetches, "fetch", "fetches", "of consumers")
        told.append(f"{waiting} for records to be committed beyond {view.high_watermark}.")
    if view.waiting_follower_fetches:
        waiting = _waiting(view.waiting_follower_fetches, "fetch", "fetches", "of followers")
        told.append(f"{waiting} for records beyond {view.log_end_offset}.")
    return told or ["No request waits for anything here."]


def _waiting_produces(view: ReplicationDescription) -> str:
    upto = f"{view.highest_required_offset}"
    if view.lowest_required_offset != view.highest_required_offset:
        upto = f"{view.lowest_required_offset} to {view.highest_required_offset}"
    waiting = _waiting(view.waiting_produces, "produce request", "produce requests", "with acks=all")
    return (
        f"{waiting} for the high watermark to reach {upto} (it is at {view.high_watermark}): "
        f"{_holding_back(view)}. The first times out in {_span(view.first_expires_in_ms)}."
    )


def _holding_back(view: ReplicationDescription) -> str:
    waited_for = [
        f"broker {each.broker_id} "
        + ("has not fetched yet" if each.log_end_offset is None else f"is at {each.log_end_offset}")
        for each in view.followers
        if (each.in_isr or each.broker_id in view.joining)
        and (each.log_end_offset is None or each.log_end_offset < view.lowest_required_offset)
    ]
    if len(view.isr) < view.min_insync_replicas:
        waited_for.insert(0, f"ISR {_set(view.isr)} < min.insync.replicas {view.min_insync_replicas}")
    return "; ".join(waited_for) or "the answers are on their way"


# --- words ------------------------------------------------------------------------------------------------


def _set(nodes: Sequence[int]) -> str:
    return "{" + ",".join(map(str, nodes)) + "}"


def _brokers(nodes: Sequence[int]) -> str:
    return ("broker " if len(nodes) == 1 else "one of brokers ") + ", ".join(map(str, nodes))


def _records(count: int) -> str:
    return f"{count:,} {'record' if count == 1 else 'records'}"


def _waiting(count: int, one: str, many: str, whose: str) -> str:
    return f"{count:,} {one if count == 1 else many} {whose} {'waits' if count == 1 else 'wait'}"


def _span(milliseconds: int) -> str:
    """As a person says it."""
    for unit_ms, unit in ((_MS_A_DAY, "days"), (_MS_AN_HOUR, "h"), (_MS_A_MINUTE, "min")):
        if milliseconds >= 2 * unit_ms:
            return f"{milliseconds // unit_ms} {unit}"
    if milliseconds >= 10 * _MS_A_SECOND:
        return f"{milliseconds // _MS_A_SECOND} s"
    return f"{milliseconds / _MS_A_SECOND:.1f} s"
