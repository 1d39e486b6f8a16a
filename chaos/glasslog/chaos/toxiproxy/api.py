"""Toxiproxy's HTTP API over the proxies. Source: the API of Toxiproxy 2.

Refuses to know sockets of proxies and what toxics do.
"""

from collections.abc import Awaitable, Callable
from json import JSONDecodeError

from aiohttp import web
from glasslog.chaos.toxiproxy.errors import BadRequestBody, ToxiproxyError
from glasslog.chaos.toxiproxy.proxies import Proxies, Proxy

VERSION = "2.12.0"
"""The version whose API this is: client libraries ask."""

_MAX_BODY_BYTES = 1 << 20

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(proxies: Proxies) -> web.Application:
    """The API as an aiohttp application; closing it leaves the proxies alone."""
    api = _Api(proxies)
    app = web.Application(middlewares=[_no_browsers, _errors_as_json], client_max_size=_MAX_BODY_BYTES)
    app.add_routes(
        [
            web.get("/version", api.version),
            web.post("/reset", api.reset),
            web.post("/populate", api.populate),
            web.get("/proxies", api.list_proxies),
            web.post("/proxies", api.create_proxy),
            web.get("/proxies/{proxy}", api.show_proxy),
            web.post("/proxies/{proxy}", api.update_proxy),
            web.patch("/proxies/{proxy}", api.update_proxy),
            web.delete("/proxies/{proxy}", api.delete_proxy),
            web.get("/proxies/{proxy}/toxics", api.list_toxics),
            web.post("/proxies/{proxy}/toxics", api.create_toxic),
            web.get("/proxies/{proxy}/toxics/{toxic}", api.show_toxic),
            web.post("/proxies/{proxy}/toxics/{toxic}", api.update_toxic),
            web.patch("/proxies/{proxy}/toxics/{toxic}", api.update_toxic),
            web.delete("/proxies/{proxy}/toxics/{toxic}", api.delete_toxic),
        ]
    )
    return app


class _Api:
    """One method a route."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies

    def _proxy(self, request: web.Request) -> Proxy:
        return self._proxies.get(request.match_info["proxy"])

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})

    async def reset(self, request: web.Request) -> web.Response:
        await self._proxies.reset()
        return web.Response(status=204)

    async def populate(self, request: web.Request) -> web.Response:
        populated = await self._proxies.populate(await _body(request))
        return web.json_response({"proxies": [proxy.to_json() for proxy in populated]}, status=201)

    async def list_proxies(self, request: web.Request) -> web.Response:
        return web.json_response({name: each.to_json() for name, each in self._proxies.by_name.items()})

    async def create_proxy(self, request: web.Request) -> web.Response:
        proxy = await self._proxies.create(await _body(request))
        return web.json_response(proxy.to_json(), status=201)

    async def show_proxy(self, request: web.Request) -> web.Response:
        return web.json_response(self._proxy(request).to_json())

    async def update_proxy(self, request: web.Request) -> web.Response:
        proxy = await self._proxies.update(request.match_info["proxy"], await _body(request))
        return web.json_response(proxy.to_json())

    async def delete_proxy(self, request: web.Request) -> web.Response:
        await self._proxies.remove(request.match_info["proxy"])
        return web.Response(status=204)

    async def list_toxics(self, request: web.Request) -> web.Response:
        return web.json_response([toxic.to_json() for toxic in self._proxy(request).toxics])

    async def create_toxic(self, request: web.Request) -> web.Response:
        proxy = self._proxy(request)
        return web.json_response(proxy.add_toxic(await _body(request)).to_json())

    async def show_toxic(self, request: web.Request) -> web.Response:
        return web.json_response(self._proxy(request).toxic(request.match_info["toxic"]).to_json())

    async def update_toxic(self, request: web.Request) -> web.Response:
        proxy = self._proxy(request)
        changed = proxy.update_toxic(request.match_info["toxic"], await _body(request))
        return web.json_response(changed.to_json())

    async def delete_toxic(self, request: web.Request) -> web.Response:
        self._proxy(request).remove_toxic(request.match_info["toxic"])
        return web.Response(status=204)


async def _body(request: web.Request) -> object:
    try:
        body: object = await request.json()
    except (JSONDecodeError, UnicodeDecodeError) as error:
        raise BadRequestBody(str(error)) from None
    return body


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ToxiproxyError as error:
        return web.json_response({"error": str(error), "status": error.status}, status=error.status)


@web.middleware
async def _no_browsers(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A page in somebody's browser must not be able to drive what listens on their machine.
    if request.headers.get("User-Agent", "").startswith("Mozilla/"):
        return web.json_response({"error": "User agent not allowed", "status": 403}, status=403)
    return await handler(request)
