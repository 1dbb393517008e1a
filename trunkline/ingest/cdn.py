"""The CDN: source settings and the browser SDK, so that Segment's stock snippet works with our host.

``GET``, ``HEAD`` and ``OPTIONS`` of (``spec/event_path.md`` §2.1):

* ``/v1/projects/<writeKey>/settings``: what every client SDK reads first (§2.2). It steers the SDK back here.
* ``/analytics.js/v1/<writeKey>/analytics.min.js`` (and ``analytics.js``, its name in old snippets): the browser
  SDK with the write key put in.
* ``/analytics-next/bundles/<name>``: the parts that the browser SDK loads on demand.

Every answer may be read from any origin, none sets a cookie, and every refusal is a JSON object with ``success``,
``code`` and ``message``.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import ipaddress
import json
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from trunkline.ingest.analytics_js import (
    INSTALL_COMMAND,
    STANDALONE,
    WRITE_KEY_PLACEHOLDER,
    AnalyticsJsAssets,
    AssetsDamaged,
    AssetsMissing,
    CdnError,
)
from trunkline.ingest.auth import Callers
from trunkline.ingest.cdn_settings import SourceSettings
from trunkline.workspace.model import Network, Snapshot, Source

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_SETTINGS_PATH: Final = re.compile(r"/v1/projects/([^/]+)/settings/?")
_SCRIPT_PATH: Final = re.compile(r"/analytics\.js/v1/([^/]+)/analytics(?:\.min)?\.js")
_BUNDLE_PATH: Final = re.compile(r"/analytics-next/bundles/([^/]+)")

_HOST: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""What may stand in a Host header of ours: a name or address and a port, nothing that could end a URL's host."""

_SHARED_AGE_S: Final = 60
_SCRIPT_AGE_S: Final = 300
_YEAR_S: Final = 31_536_000
_NOT_FOUND_AGE_S: Final = 10
_RETRY_AFTER_S: Final = 15
_PREFLIGHT_AGE_S: Final = 86_400
_CACHE_BYTES: Final = 8 << 20

_COMMON_HEADERS: Final[Headers] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"Retry-After"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"cross-origin"),
]

# The SDK learns its CDN from `analytics._cdn`, else from its own script tag, but there it knows https only, and it
# looks at `window.analytics` even when the snippet renamed it. So the origin that this script came from is put
# where the SDK looks, if the page has not chosen one; what was at `window.analytics` is put back afterwards.
_PROLOGUE: Final = b"""(function(w,d){
var s=d.currentScript,m=s&&/^(https?:\\/\\/.*)\\/analytics\\.js\\/v1\\//.exec(s.src),restore=function(){};
if(m){
var k=s.getAttribute("data-global-segment-analytics-key")||"analytics",q=w[k],had="analytics"in w,was=w.analytics;
if(q&&!q._cdn)q._cdn=m[1];
if(!q||k!=="analytics"){
w.analytics={_cdn:q&&q._cdn||m[1]};
restore=function(){if(had)w.analytics=was;else delete w.analytics};
}}
try{
"""
_EPILOGUE: Final = b"""
}finally{restore()}
})(window,document);
"""
_SOURCE_MAP_COMMENT: Final = re.compile(rb"\n?//# sourceMappingURL=\S+\s*\Z")


class _BadHost(Exception):
    """The request names a host that no browser would send."""


class Cdn:
    """An ASGI application for the paths above; others get 404.

    ``public_url`` is the address that clients know this server by (``https://events.example.com``, a path may
    follow). Without it the address is the request's own: ``Host`` and scheme, or ``X-Forwarded-Host`` and
    ``-Proto`` when the peer is one of ``trusted_proxies``. ``on_unknown_key`` is told
    of each request that named a key which is unknown or disabled: the key, the caller's address, its user agent and
    the code of the refusal, as :meth:`trunkline.ingest.unknown_keys.UnknownKeys.note` takes them.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        assets: AnalyticsJsAssets,
        *,
        public_url: str | None = None,
        trusted_proxies: Sequence[Network] = (),
        on_unknown_key: Callable[[str, str, str, str], None] | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._assets = assets
        self._public = _parse_public_url(public_url) if public_url is not None else None
        self._trusted_proxies = tuple(trusted_proxies)
        self._callers = Callers(tuple(trusted_proxies))
        self._on_unknown_key = on_unknown_key
        self._source_settings = SourceSettings()
        self._scripts = _CompressedCache(_CACHE_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request. The request's body is not read."""
        method: str = scope["method"]
        reply = _Reply(send, head=method == "HEAD")
        if method == "OPTIONS":
            await reply.preflight(_header(scope, b"access-control-request-headers"))
            return
        if method not in ("GET", "HEAD"):
            await reply.error(405, "method_not_allowed", "Use GET.", [(b"allow", b"GET, HEAD, OPTIONS")])
            return
        path: str = scope["path"]
        if match := _SETTINGS_PATH.fullmatch(path):
            await self._settings(scope, match[1], reply)
        elif match := _SCRIPT_PATH.fullmatch(path):
            await self._script(scope, match[1], reply)
        elif match := _BUNDLE_PATH.fullmatch(path):
            await self._bundle(scope, match[1], reply)
        else:
            await reply.not_found("not_found", "The CDN has no such file.")

    async def _settings(self, scope: Scope, write_key: str, reply: _Reply) -> None:
        source = await self._source(scope, write_key, reply)
        if source is None:
            return
        try:
            protocol, host = self._public or self._address(scope)
        except _BadHost:
            await reply.error(400, "bad_request", "The Host header is not a host name with an optional port.")
            return
        body = await self._source_settings.encode(self._snapshot(), source, write_key, protocol, host)
        # A shared cache that mixes up hosts would hand one visitor's Host to all others as the place to send
        # their events to; only an address that we were told may be kept in one.
        scope_of_cache = b"public" if self._public else b"private"
        headers = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"cache-control", b"%s, max-age=%d" % (scope_of_cache, _SHARED_AGE_S)),
        ]
        if self._trusted_proxies and not self._public:
            headers.append((b"vary", b"X-Forwarded-Host, X-Forwarded-Proto"))
        await reply.content(scope, body, headers)

    async def _script(self, scope: Scope, write_key: str, reply: _Reply) -> None:
        source = await self._source(scope, write_key, reply)
        if source is None:
            return
        await self._javascript(
            scope,
            reply,
            key=f"script {write_key}",
            make=lambda: personalised(self._assets.read(STANDALONE), write_key),
            cache_control=b"public, max-age=%d" % _SCRIPT_AGE_S,
        )

    async def _bundle(self, scope: Scope, name: str, reply: _Reply) -> None:
        try:
            known = name in self._assets.bundles()
        except CdnError:
            known = True  # reading it will say what is wrong
        if not known:
            await reply.not_found("not_found", "This version of the browser SDK has no such bundle.")
            return
        # A bundle's name holds a hash of its content.
        await self._javascript(
            scope,
            reply,
            key=f"bundle {name}",
            make=lambda: self._assets.read(name),
            cache_control=b"public, max-age=%d, immutable" % _YEAR_S,
        )

    async def _javascript(
        self, scope: Scope, reply: _Reply, *, key: str, make: Callable[[], bytes], cache_control: bytes
    ) -> None:
        try:
            file = await self._scripts.get(key, make)
        except AssetsMissing:
            await reply.unavailable(
                "analytics_js_missing",
                f"The browser SDK is not installed on this server yet. Its operator can run `{INSTALL_COMMAND}`.",
            )
            return
        except AssetsDamaged:
            await reply.unavailable(
                "analytics_js_damaged",
                "The browser SDK's files on this server are damaged. Its operator can remove the folder"
                f" cache/analytics-next of the data directory and run `{INSTALL_COMMAND}`.",
            )
            return
        headers = [
            (b"content-type", b"application/javascript; charset=utf-8"),
            (b"cache-control", cache_control),
            (b"vary", b"Accept-Encoding"),
        ]
        if _takes_gzip(_header(scope, b"accept-encoding")):
            headers.append((b"content-encoding", b"gzip"))
            await reply.content(scope, file.compressed, headers, file.etag)
        else:
            await reply.content(scope, gzip.decompress(file.compressed), headers, file.etag)

    async def _source(self, scope: Scope, write_key: str, reply: _Reply) -> Source | None:
        """The enabled source of this key, or None after the refusal was sent."""
        source = self._snapshot().by_write_key.get(write_key)
        if source is not None and source.enabled:
            return source
        code, message = (
            ("unknown_source", "No source has this write key.")
            if source is None
            else ("source_disabled", "The source of this write key is disabled.")
        )
        if self._on_unknown_key is not None:
            forwarded_for = _header(scope, b"x-forwarded-for").encode("latin-1") or None
            address = self._callers.address(scope, forwarded_for)
            self._on_unknown_key(write_key, address, _header(scope, b"user-agent"), code)
        await reply.not_found(code, message)
        return None

    def _address(self, scope: Scope) -> tuple[str, str]:
        """The scheme and host by which the client reached us. Raises _BadHost."""
        protocol = str(scope.get("scheme", "http"))
        host = _header(scope, b"host")
        if self._is_trusted_proxy(scope):
            protocol = _first(_header(scope, b"x-forwarded-proto")).lower() or protocol
            host = _first(_header(scope, b"x-forwarded-host")) or host
        if not host:
            # HTTP/1.0 has no Host: the address that the connection was made to is all there is.
            name, port = scope.get("server") or ("", None)
            host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        if protocol not in ("http", "https") or not _HOST.fullmatch(host):
            raise _BadHost
        return protocol, host

    def _is_trusted_proxy(self, scope: Scope) -> bool:
        peer = scope.get("client")
        if not self._trusted_proxies or not peer:
            return False
        try:
            address = ipaddress.ip_address(peer[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted_proxies)


def personalised(standalone: bytes, write_key: str) -> bytes:
    """The browser SDK for one source: Segment's file with the write key put in, between two lines of ours."""
    literal = json.dumps(write_key)[1:-1].replace("<", "\\u003c").encode()
    script = standalone.replace(WRITE_KEY_PLACEHOLDER.encode(), literal)
    return _PROLOGUE + _SOURCE_MAP_COMMENT.sub(b"", script) + _EPILOGUE


class _File:
    """A script as it is sent: compressed once; the tag is that of the text, so it is a weak one."""

    __slots__ = ("compressed", "etag")

    def __init__(self, text: bytes) -> None:
        self.compressed = gzip.compress(text, 6, mtime=0)
        self.etag = b'W/"%s"' % hashlib.sha256(text).hexdigest()[:32].encode()


class _CompressedCache:
    """Files by key, the longest unused dropped first when they exceed ``max_bytes``."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._making = asyncio.Lock()

    async def get(self, key: str, make: Callable[[], bytes]) -> _File:
        """The file, made in a thread if it is not here: reading and compressing takes milliseconds."""
        file = self._files.get(key)
        if file is None:
            async with self._making:
                file = self._files.get(key)
                if file is None:
                    file = await asyncio.to_thread(lambda: _File(make()))
                    self._put(key, file)
        self._files.move_to_end(key)
        return file

    def _put(self, key: str, file: _File) -> None:
        self._files[key] = file
        self._size_bytes += len(file.compressed)
        while self._size_bytes > self._max_bytes and len(self._files) > 1:
            _, dropped = self._files.popitem(last=False)
            self._size_bytes -= len(dropped.compressed)


class _Reply:
    """Sends one response; to HEAD the headers only."""

    def __init__(self, send: Send, *, head: bool) -> None:
        self._send = send
        self._head = head

    async def _respond(self, status: int, headers: Headers, body: bytes) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": _COMMON_HEADERS + headers})
        await self._send({"type": "http.response.body", "body": b"" if self._head else body})

    async def content(self, scope: Scope, body: bytes, headers: Headers, etag: bytes | None = None) -> None:
        """200, or 304 if the client has it."""
        if etag is None:
            etag = b'W/"%s"' % hashlib.sha256(body).hexdigest()[:32].encode()
        headers = [*headers, (b"etag", etag)]
        if _has_tag(_header(scope, b"if-none-match"), etag.decode()):
            kept = [pair for pair in headers if pair[0] not in (b"content-type", b"content-encoding")]
            await self._respond(304, kept, b"")
            return
        await self._respond(200, [*headers, (b"content-length", b"%d" % len(body))], body)

    async def error(self, status: int, code: str, message: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """A JSON object with the keys that the server-side SDKs read (``spec/event_path.md`` §1.5)."""
        body = json.dumps({"success": False, "code": code, "message": message, "error": message}).encode()
        fixed = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
        ]
        await self._respond(status, [*fixed, *headers], body)

    async def not_found(self, code: str, message: str) -> None:
        # A key that was just made must not stay unknown in a browser for long.
        await self.error(404, code, message, [(b"cache-control", b"private, max-age=%d" % _NOT_FOUND_AGE_S)])

    async def unavailable(self, code: str, message: str) -> None:
        headers = [(b"cache-control", b"no-store"), (b"retry-after", b"%d" % _RETRY_AFTER_S)]
        await self.error(503, code, message, headers)

    async def preflight(self, requested_headers: str) -> None:
        """Any header may be sent: the files are public and no credential is looked at."""
        allowed = requested_headers if re.fullmatch(r"[A-Za-z0-9_, -]{1,1000}", requested_headers) else "*"
        await self._respond(
            204,
            [
                (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
                (b"access-control-allow-headers", allowed.encode()),
                (b"access-control-max-age", b"%d" % _PREFLIGHT_AGE_S),
                (b"vary", b"Access-Control-Request-Headers"),
            ],
            b"",
        )


def _parse_public_url(url: str) -> tuple[str, str]:
    """The scheme, and the host with the path that may follow. Raises ValueError."""
    parts = urlsplit(url)
    usable = parts.scheme in ("http", "https") and _HOST.fullmatch(parts.netloc)
    if not usable or parts.query or parts.fragment or not re.fullmatch(r"[A-Za-z0-9._/-]*", parts.path):
        raise ValueError(f"public_url must look like https://events.example.com, not {url!r}")
    return parts.scheme, parts.netloc + parts.path.rstrip("/")


def _header(scope: Scope, name: bytes) -> str:
    """The last header of this name, or the empty string."""
    for key, value in reversed(list(scope["headers"])):
        if key == name:
            return str(bytes(value), "latin-1").strip()
    return ""


def _first(values: str) -> str:
    """The first of a comma-separated list: the one that the client sent to the outermost proxy."""
    return values.split(",", 1)[0].strip()


def _takes_gzip(accept_encoding: str) -> bool:
    """RFC 9110 §12.5.3; a q of zero refuses."""
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.strip().partition(";")
        if coding.strip() in ("gzip", "x-gzip", "*"):
            return not re.fullmatch(r"\s*q\s*=\s*0(?:\.0{0,3})?\s*", parameters)
    return False


def _has_tag(if_none_match: str, etag: str) -> bool:
    """Weak comparison of RFC 9110 §13.1.2."""
    if if_none_match == "*":
        return True
    wanted = etag.removeprefix("W/")
    return any(tag.strip().removeprefix("W/") == wanted for tag in if_none_match.split(","))
