"""A request to the data plane as its operations see it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from limpet.service._gateway import Gateway
from limpet_core.service import (
    Connection,
    Hub,
    InvalidMetadata,
    ServiceCore,
    metadata_from_headers,
)
from limpet_core.service.data_plane import operations
from limpet_core.service.data_plane.parameters import (
    Query,
    bad_request,
    connection_id,
    group_name,
    payload,
    user_id,
)
from limpet_core.service.data_plane.writes import Message, Write


class Call:
    """An authorized request to the data plane.

    Attributes:
        url: the URL that the application server used, without the query.
        endpoint: the URL for which tokens of clients are signed.
        query: the parameters in the query.
    """

    def __init__(self, gateway: Gateway, request: Request, url: str, endpoint: str) -> None:
        self.gateway: Gateway = gateway
        self.core: ServiceCore = gateway.core
        self.request: Request = request
        self.url: str = url
        self.endpoint: str = endpoint
        self.query: Query = Query(request.query_params.multi_items())
        gateway.note_api_version(self.query.one("api-version"), self.query.api_version())

    @property
    def hub(self) -> Hub:
        """The hub in the path."""
        return self.core.hub(self.path("hub"))

    @property
    def group(self) -> str:
        """The name of the group in the path."""
        return group_name(self.path("group"))

    @property
    def permission(self) -> str:
        """The permission in the path, which is told to be wrong before its group is."""
        return operations.permission_name(self.path("permission"))

    @property
    def target(self) -> str:
        """The name of the group of a permission."""
        group = self.query.one("targetName")
        if group is None:
            raise bad_request("Invalid group name. The query needs it: ?targetName=GROUP.", "targetName")
        return group_name(group, "targetName")

    @property
    def members(self) -> Collection[Connection]:
        """The members of the group in the path."""
        return self.hub.members(self.group)

    @property
    def user(self) -> Collection[Connection]:
        """The connections of the user in the path."""
        return self.hub.user(self.user_id)

    @property
    def user_id(self) -> str:
        """The id of the user in the path."""
        return user_id(self.path("user"))

    @property
    def connection(self) -> Collection[Connection]:
        """The connection in the path, as a collection of at most one connection."""
        return operations.find(self.core, self.path("hub"), self.connection_id)

    @property
    def connection_id(self) -> str:
        """The id of the connection in the path."""
        return connection_id(self.path("connection"))

    @property
    def content_type(self) -> str | None:
        """The content type of the body; ``None`` if there is none. Several are told as a list, which is no type."""
        return ", ".join(self.request.headers.getlist("content-type")) or None

    @property
    def excluded(self) -> tuple[str, ...]:
        """The ids of the connections to leave out."""
        return tuple(self.query.all("excluded"))

    def path(self, name: str) -> str:
        """Return a parameter in the path."""
        return str(self.request.path_params[name])

    def reader(self) -> Callable[[bytes], Message]:
        """Return the function that makes a message of the body."""
        seconds = self.query.time_to_live()

        def read(body: bytes) -> Message:
            data_type, data = payload(self.content_type, body)
            try:
                metadata = metadata_from_headers(self.request.headers.items())
            except InvalidMetadata as error:
                raise bad_request(f"Metadata in the headers: {error}.") from None
            return Message(data_type, data, metadata, seconds or 0)

        return read


Operation: TypeAlias = Callable[[Call], "Response | AfterBody | AfterWrite"]


class AfterBody:
    """The rest of an operation, which takes the body: all else about the request is right (emulator)."""

    def __init__(self, proceed: Callable[[bytes], AfterWrite]) -> None:
        self.proceed: Callable[[bytes], AfterWrite] = proceed


class AfterWrite:
    """The end of an operation that changes or sends something: the status to answer with once that is done."""

    def __init__(self, status: int, write: Write) -> None:
        self.status: int = status
        self.write: Write = write
