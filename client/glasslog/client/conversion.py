"""From what was fetched to what the user gets: records with a place, deserialized, past the interceptors.

Refuses to know where records come from and which position a consumer has.
"""

from collections.abc import Callable, Iterable, Sequence

from glasslog.client.interceptors import ConsumerInterceptor, passed_through
from glasslog.client.serializers import DeserializationError, deserializer_of
from glasslog.client.types import ConsumerRecord, Deserializer, FetchedRecords, make_record
from glasslog.common.ids import TopicPartition


class Conversion:
    """One consumer's. ``give_back`` gets records that come to nobody, in order."""

    def __init__(
        self,
        *,
        key_deserializer: Deserializer | str | None,
        value_deserializer: Deserializer | str | None,
        interceptors: Sequence[ConsumerInterceptor],
        give_back: Callable[[Sequence[ConsumerRecord]], None],
    ) -> None:
        self._key_deserializer = deserializer_of("key_deserializer", key_deserializer)
        self._value_deserializer = deserializer_of("value_deserializer", value_deserializer)
        self._is_raw = self._key_deserializer is None and self._value_deserializer is None
        self._interceptors = tuple(each.on_consume for each in interceptors)
        self.does_nothing = self._is_raw and not self._interceptors
        """Whether records are handed out as they are."""

        self._give_back = give_back

    def of_runs(self, runs: Iterable[FetchedRecords]) -> list[ConsumerRecord]:
        """Raises ``DeserializationError`` if not even the first record can be handed out."""
        records: list[ConsumerRecord] = []
        for partition, run, epoch in runs:
            topic, number = partition.topic, partition.partition
            records += [make_record(ConsumerRecord, (topic, number, *record, epoch)) for record in run]
        return self._converted(records)

    def of_one(self, record: ConsumerRecord) -> ConsumerRecord | None:
        """``None`` when an interceptor took it away. Raises ``DeserializationError``."""
        return next(iter(self._converted([record])), None)

    def _converted(self, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        if not self._is_raw:
            records = self._deserialized(records)
        if self._interceptors and records:
            records = passed_through(self._interceptors, records)
        return records

    def _deserialized(self, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """Those before the first that can not be; that one and the rest count as not handed out."""
        done: list[ConsumerRecord] = []
        for index, record in enumerate(records):
            try:
                done.append(self._deserialize(record))
            except DeserializationError:
                self._give_back(records[index:])
                if not done:
                    raise
                break
        return done

    def _deserialize(self, record: ConsumerRecord) -> ConsumerRecord:
        try:
            if self._key_deserializer is not None and record.key is not None:
                record = record._replace(key=self._key_deserializer(record.key))
            if self._value_deserializer is not None and record.value is not None:
                record = record._replace(value=self._value_deserializer(record.value))
        except Exception as error:
            partition = TopicPartition(record.topic, record.partition)
            raise DeserializationError(
                f"the record at offset {record.offset} of {partition} can not be deserialized: "
                f"{error or type(error).__name__}; seek to {record.offset + 1} to go on behind it",
                partition=partition,
                offset=record.offset,
            ) from error
        return record
