"""``Admin`` for plain scripts: every method is that of the ``Admin`` for asyncio, waited for."""

from typing import Unpack

from glasslog.client import admin as asyncio_admin
from glasslog.client.blocking.base import BlockingClient, waiting
from glasslog.client.options import Bootstrap, ClientKeywords
from glasslog.common.runtime.protocols import Runtime


class Admin(BlockingClient[asyncio_admin.Admin]):
    """Looks at a cluster and changes it; see ``glasslog.client.Admin``."""

    def __init__(
        self,
        bootstrap_servers: Bootstrap,
        *,
        runtime: Runtime | None = None,
        **options: Unpack[ClientKeywords],
    ) -> None:
        super().__init__(asyncio_admin.Admin(bootstrap_servers, runtime=runtime, **options), "admin")

    create_topics = waiting(asyncio_admin.Admin.create_topics)
    delete_topics = waiting(asyncio_admin.Admin.delete_topics)
    list_topics = waiting(asyncio_admin.Admin.list_topics)
    describe_topics = waiting(asyncio_admin.Admin.describe_topics)
    describe_cluster = waiting(asyncio_admin.Admin.describe_cluster)
    list_offsets = waiting(asyncio_admin.Admin.list_offsets)
    delete_records = waiting(asyncio_admin.Admin.delete_records)
    beginning_offsets = waiting(asyncio_admin.Admin.beginning_offsets)
    end_offsets = waiting(asyncio_admin.Admin.end_offsets)
    alter_configs = waiting(asyncio_admin.Admin.alter_configs)
    describe_configs = waiting(asyncio_admin.Admin.describe_configs)
    alter_client_quotas = waiting(asyncio_admin.Admin.alter_client_quotas)
    describe_client_quotas = waiting(asyncio_admin.Admin.describe_client_quotas)
    create_partitions = waiting(asyncio_admin.Admin.create_partitions)
    list_groups = waiting(asyncio_admin.Admin.list_groups)
    describe_groups = waiting(asyncio_admin.Admin.describe_groups)
    group_offsets = waiting(asyncio_admin.Admin.group_offsets)
    commit_group_offsets = waiting(asyncio_admin.Admin.commit_group_offsets)
    delete_groups = waiting(asyncio_admin.Admin.delete_groups)
    describe_replication = waiting(asyncio_admin.Admin.describe_replication)


# What is named above is known to type checkers; whatever else there is works all the same.
for _name in dir(asyncio_admin.Admin):
    if not _name.startswith("_") and not hasattr(Admin, _name):
        setattr(Admin, _name, waiting(getattr(asyncio_admin.Admin, _name)))
