"""Where our answers differ from Kafka's and should: each with its reason."""

import re
from typing import NamedTuple

from tests.e2e.compared_answers import Difference


class Known(NamedTuple):
    """Answers of an API (``*``: of all) may differ in fields whose path matches, and why.

    ``kafka`` and ``ours`` are patterns of what each may say there.
    """

    api: str
    path: str
    why: str
    kafka: str = ".*"
    ours: str = ".*"


_REFUSED = r"(?!none ).*"
_NO_TRANSACTIONS = "there is no coordinator of transactions yet"

ANSWERS: tuple[Known, ...] = (
    Known("*", r".*error_message", "we say what is wrong where Kafka leaves it at the code", kafka="None"),
    Known("*", r".*error_message", "Kafka names what the code says already", ours="None", kafka="some text"),
    Known(
        "(Alter|IncrementalAlter)Configs|CreateTopics|CreatePartitions|Produce|ElectLeaders",
        r".*error_code",
        "of two mistakes in one request each tells the one that it looks for first",
        kafka=_REFUSED,
        ours=_REFUSED,
    ),
    Known(
        "FindCoordinator", r".*(error_code|node_id|host)", _NO_TRANSACTIONS, ours=r"unsupported_version.*|-1|"
    ),
    Known(
        "Fetch",
        r".*\.log_start_offset",
        "with an error too we say where the log begins: a follower that is out of range goes there at once",
        kafka="-1",
    ),
    Known(
        "Fetch",
        r".*(current_leader\.leader_id|current_leader\.leader_epoch|node_endpoints\[\])",
        "we say who leads with every error of the epoch, so that a client need not ask for metadata",
        kafka=r"-1|\[\]",
    ),
    Known(
        "Fetch",
        r".*aborted_transactions",
        "none of them is null here, where Kafka has an empty array",
        kafka=r"\[\]",
        ours="None",
    ),
    Known("Fetch", r".*last_stable_offset", "an answer without records needs none", ours="-1"),
    Known(
        "AlterConfigs|IncrementalAlterConfigs",
        r".*error_code",
        "Kafka keeps settings of brokers that it does not know; we refuse them, as they are mistakes",
        kafka=r"none.*",
        ours=r"invalid_.*",
    ),
    Known("*", r".*error_code", "Kafka fails where we name the mistake", kafka=r"unknown_server_error.*"),
    Known(
        "DescribeClientQuotas",
        r"error_code",
        "a kind of entity that no version has is a mistake of the request, not of its version",
        kafka=r"unsupported_version.*",
        ours=r"invalid_request.*",
    ),
    Known("DescribeConfigs", r".*configs.*", "each has settings of its own, and its own words for them"),
    Known(
        "ElectLeaders",
        r"replica_election_results\[\]",
        "Kafka names topics with nothing to tell of",
        ours=r"\[\]",
    ),
    Known("DescribeQuorum", r".*(voters|observers|leader|high_watermark|nodes|epoch).*", "another quorum"),
    Known("DescribeLogDirs", r".*(partition_size|topics\[\]).*", "the internal topics are each system's own"),
    Known("CreateTopics", r".*configs.*", "each has settings of its own"),
    Known(
        "OffsetCommit",
        r".*error_code",
        "to a member of a group that is gone version 9 says what the versions before say: clients know it",
        kafka=r"group_id_not_found .*",
        ours=r"illegal_generation .*",
    ),
    Known("DescribeProducers", r".*last_timestamp|.*producer_id", "when and by whom"),
)


def is_known(api: str, difference: Difference) -> bool:
    """Whether a difference is one of ``ANSWERS``."""
    return any(
        (known.api == "*" or re.fullmatch(known.api, api))
        and re.fullmatch(known.path, difference.path)
        and re.fullmatch(known.kafka, str(difference.kafka), re.DOTALL)
        and re.fullmatch(known.ours, str(difference.ours), re.DOTALL)
        for known in ANSWERS
    )
