"""What each anomaly means to somebody who has not read the checker's document.

Refuses to know how one is found.
"""

from collections.abc import Mapping

from glasslog.checker.anomalies import Kind

EXPLANATIONS: Mapping[Kind, str] = {
    Kind.INCONSISTENT_OFFSETS: (
        "Two clients were given different records at one offset: two replicas disagree about the "
        "log below the high watermark. Somebody led who should not have, or did not truncate what "
        "it had too much when it came back."
    ),
    Kind.DUPLICATE: (
        "One record lies at two offsets. A retry was appended again: the new leader did not know "
        "the producer's last sequence numbers."
    ),
    Kind.LOST_WRITE: (
        "A record was acknowledged with acks=all, later ones were read, and nobody was ever given "
        "this one. A leader was elected that did not have it, or a log was truncated too far."
    ),
    Kind.UNSEEN: (
        "A record was acknowledged with acks=all, and reading everything in the end did not find it."
    ),
    Kind.ABORTED_READ: ("A consumer was given a record whose writer had failed for certain or had aborted."),
    Kind.PRECOMMITTED_READ: "A transaction read what it had written itself before it committed.",
    Kind.POLL_SKIP: "A consumer jumped over records between two polls.",
    Kind.NONMONOTONIC_POLL: ("A consumer was given records again, or older ones, although nobody moved it."),
    Kind.INT_POLL_SKIP: "Records are missing in the middle of what one poll returned.",
    Kind.INT_NONMONOTONIC_POLL: "One poll returned records out of order.",
    Kind.NONMONOTONIC_SEND: (
        "A producer's later record lies before its earlier one: a retry overtook another batch."
    ),
    Kind.INT_NONMONOTONIC_SEND: ("The records of one batch are not in the order in which they were sent."),
    Kind.INT_SEND_SKIP: "Somebody else's record lies within a batch.",
    Kind.DIRTY_WRITE_CYCLE: (
        "Writes precede each other in a circle: the orders of two partitions contradict."
    ),
    Kind.INFORMATION_CYCLE: "Operations saw each other in a circle, which no order of time allows.",
    Kind.NEVER_SENT: (
        "A record was read that no client of this run has sent: it was damaged, or is somebody else's."
    ),
    Kind.VANISHED: (
        "A consumer was given a record that was not there any more in the end: it was shown before "
        "it was safe, or was lost after it was."
    ),
    Kind.UNSEEN_BY_GROUP: (
        "A record was acknowledged, and no member of a group was ever given it although the group "
        "read to the end: an offset was committed beyond what had been handed out."
    ),
}
