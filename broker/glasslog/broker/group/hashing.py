"""Which partition of ``__consumer_offsets`` a group belongs to, by Java's string hash as in Kafka."""


def java_string_hash(text: str) -> int:
    """``String.hashCode`` of ``text``: over UTF-16 code units, as a signed 32-bit integer."""
    value = 0
    units = text.encode("utf-16-be", "surrogatepass")
    for index in range(0, len(units), 2):
        value = (31 * value + int.from_bytes(units[index : index + 2], "big")) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


def partition_of_group(group_id: str, partition_count: int) -> int:
    """The partition whose leader coordinates the group (Kafka's ``Utils.abs(hash) % count``)."""
    return (java_string_hash(group_id) & 0x7FFFFFFF) % partition_count
