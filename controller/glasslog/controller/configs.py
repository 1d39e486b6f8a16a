"""Settings of topics and brokers are changed while they run.

Checks what was asked against the tables of settings and turns it into records, together with the elections
that a changed setting allows at once.  Refuses to know what a setting does.  Source: KIP-339, Kafka's
``ConfigurationControlManager`` and ``ConfigAdminManager``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from glasslog.common import dynamic_config, topic_config
from glasslog.common.dynamic_config import check_broker_overrides
from glasslog.common.errors import ConfigError, ErrorCode, GlasslogError
from glasslog.common.ids import NodeId, Offset
from glasslog.common.topic_config import check_topic_overrides
from glasslog.controller.admin_requests import (
    AlterConfigsRequest,
    AlterConfigsResponse,
    AlteredResource,
    ConfigEdit,
    ConfigOperation,
    ResourceEdits,
)
from glasslog.controller.decision import Context, Decision
from glasslog.controller.elections import MIN_ISR_KEY, UNCLEAN_KEY, adjusted
from glasslog.metadata.delta import MetadataDelta
from glasslog.metadata.image import MetadataImage
from glasslog.metadata.records import ConfigChange, MetadataRecord, ResourceType

_SHOWN_LENGTH = 300


def alter_configs(context: Context, request: AlterConfigsRequest) -> Decision[AlterConfigsResponse]:
    """Each resource whole or not at all, independently of the others. With ``validate_only`` no records."""
    counts = Counter((each.resource_type, each.name) for each in request.resources)
    results: list[AlteredResource] = []
    changes: list[ConfigChange] = []
    for resource in request.resources:
        try:
            if counts[(resource.resource_type, resource.name)] > 1:
                raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{resource.name!r} is named twice")
            changes += _changes(context.image, resource)
        except GlasslogError as error:
            results.append(_result(resource, error))
        else:
            results.append(_result(resource, None))
    records = () if request.validate_only else _with_elections(context, changes)
    return Decision(response=AlterConfigsResponse(resources=tuple(results)), records=records)


def _result(resource: ResourceEdits, error: GlasslogError | None) -> AlteredResource:
    return AlteredResource(
        resource_type=resource.resource_type,
        name=resource.name,
        error_code=ErrorCode.NONE if error is None else error.code,
        error_message="" if error is None else str(error)[:_SHOWN_LENGTH],
    )


# --- one resource ---


def _changes(image: MetadataImage, resource: ResourceEdits) -> list[ConfigChange]:
    kind = _existing(image, resource)
    before = image.configs.get((kind, resource.name), {})
    after = _edited(kind, {} if resource.replace_all else before, resource.edits)
    _check(kind, resource.name, after)
    return [
        ConfigChange(resource_type=kind, resource_name=resource.name, key=key, value=after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def _existing(image: MetadataImage, resource: ResourceEdits) -> ResourceType:
    """The resource's type. Raises for a type that has no settings, or a resource that does not exist."""
    name = resource.name
    if resource.resource_type == ResourceType.TOPIC:
        if name not in image.topic_ids:
            raise GlasslogError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name!r}")
        return ResourceType.TOPIC
    if resource.resource_type != ResourceType.BROKER:
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST,
            f"resource type {resource.resource_type} has no settings here; allowed: 2 (topic), 4 (broker)",
        )
    if name and not name.isdecimal():
        raise GlasslogError(ErrorCode.INVALID_REQUEST, f"{name!r} is no broker's id")
    if name and (str(int(name)) != name or NodeId(int(name)) not in image.brokers):
        raise GlasslogError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"no broker {name} is registered")
    return ResourceType.BROKER


def _edited(kind: ResourceType, before: Mapping[str, str], edits: Iterable[ConfigEdit]) -> dict[str, str]:
    after = dict(before)
    seen: set[str] = set()
    for edit in edits:
        if edit.key in seen:
            raise GlasslogError(ErrorCode.INVALID_REQUEST, f"setting {edit.key!r} is named twice")
        seen.add(edit.key)
        if edit.operation == ConfigOperation.DELETE:
            after.pop(edit.key, None)
            continue
        if edit.value is None:
            raise GlasslogError(ErrorCode.INVALID_REQUEST, f"setting {edit.key!r} needs a value")
        after[edit.key] = _value(kind, edit, edit.value.strip(), before.get(edit.key))
    return after


def _value(kind: ResourceType, edit: ConfigEdit, value: str, before: str | None) -> str:
    if edit.operation == ConfigOperation.SET:
        return value
    if edit.operation not in (ConfigOperation.APPEND, ConfigOperation.SUBTRACT):
        raise GlasslogError(
            ErrorCode.INVALID_REQUEST,
            f"setting {edit.key!r}: there is no operation {edit.operation}; allowed: 0 (set), 1 (delete), "
            "2 (append), 3 (subtract)",
        )
    table = topic_config if kind is ResourceType.TOPIC else dynamic_config
    default = table.list_default(edit.key)
    if default is None:
        raise GlasslogError(
            ErrorCode.INVALID_CONFIG, f"setting {edit.key!r} is no list: nothing can be added or taken away"
        )
    had, given = _items(default if before is None else before), _items(value)
    if edit.operation == ConfigOperation.APPEND:
        return ",".join(dict.fromkeys((*had, *given)))
    return ",".join(item for item in had if item not in given)


def _items(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check(kind: ResourceType, name: str, settings: Mapping[str, str]) -> None:
    try:
        if kind is ResourceType.TOPIC:
            check_topic_overrides(settings)
        else:
            check_broker_overrides(settings, is_every_broker=not name)
    except ConfigError as error:
        # Kafka answers so for brokers, whose settings the asked broker itself checks (KAFKA-13609).
        code = ErrorCode.INVALID_CONFIG if kind is ResourceType.TOPIC else ErrorCode.INVALID_REQUEST
        raise GlasslogError(code, str(error)) from error


# --- what follows at once ---


def _with_elections(context: Context, changes: list[ConfigChange]) -> tuple[MetadataRecord, ...]:
    """The changes, with leaders for partitions that may now lose records for one, and without needless ELRs.

    The ELRs must go with the setting: a leader goes by a smaller ``min.insync.replicas`` as soon as it
    knows it, and then commits what only its ISR has.
    """
    concerned = [change for change in changes if change.key in (UNCLEAN_KEY, MIN_ISR_KEY)]
    if not concerned:
        return tuple(changes)
    is_for_all = any(change.resource_type is ResourceType.BROKER for change in concerned)
    topics = None if is_for_all else frozenset(change.resource_name for change in concerned)
    return (*changes, *adjusted(_image_after(context, changes), context.settings, topics))


def _image_after(context: Context, changes: Iterable[ConfigChange]) -> MetadataImage:
    delta = MetadataDelta(context.image)
    for index, change in enumerate(changes):
        delta.replay(Offset(context.next_offset + index), context.image.epoch, change)
    return delta.apply()
