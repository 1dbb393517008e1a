"""Peers on loopback for the tests of the client: what they do is a function of the connection."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.http import GuardedClient
from trunkline.destinations.kit import HttpError

LOOPBACK = EgressPolicy((ip_network("127.0.0.0/8"), ip_network("::1/128")))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """One listening address. ``requests`` are heads and bodies (of those with a length) as they came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.callers: list[str] = []
        self.requests: list[bytes] = []

    @property
    def heads(self) -> list[str]:
        return [request.partition(b"\r\n\r\n")[0].decode("latin-1") for request in self.requests]

    @property
    def bodies(self) -> list[bytes]:
        return [request.partition(b"\r\n\r\n")[2] for request in self.requests]


@asynccontextmanager
async def serving(
    talk: Callable[[Peer], Talk] | bytes = OK,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Peer]:
    """``talk``: what is done with each connection, or the answer to each request."""
    writers: list[asyncio.StreamWriter] = []
    tasks: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        writers.append(writer)
        peer.connections += 1
        peer.callers.append(writer.get_extra_info("peername")[0])
        with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            await (talk(peer) if callable(talk) else answering(talk)(peer))(reader, writer)
        with suppress(Exception):
            writer.close()

    server = await asyncio.start_server(connected, host, port, ssl=tls)
    peer = Peer(server.sockets[0].getsockname()[1])
    try:
        yield peer
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        for task in tasks - {None}:
            task.cancel()  # type: ignore[union-attr]
        await asyncio.gather(*tasks - {None}, return_exceptions=True)  # type: ignore[arg-type]


async def read_request(peer: Peer, reader: asyncio.StreamReader) -> bytes:
    """The head of the next request; it and its body are kept."""
    head = await reader.readuntil(b"\r\n\r\n")
    body = b""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            body = await reader.readexactly(int(line.partition(b":")[2]))
    peer.requests.append(head + body)
    return head


def answering(answer: bytes | Callable[[bytes], bytes]) -> Callable[[Peer], Talk]:
    """Each request gets this answer, or what the function makes of its head."""

    def of(peer: Peer) -> Talk:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head = await read_request(peer, reader)
                writer.write(answer(head) if callable(answer) else answer)
                await writer.drain()

        return talk

    return of


@asynccontextmanager
async def client_of(
    policy: EgressPolicy = LOOPBACK, *, timeout_s: float = 5, tls: ssl.SSLContext | None = None
) -> AsyncIterator[GuardedClient]:
    client = GuardedClient(lambda: policy, timeout_s=timeout_s, tls=tls)
    try:
        yield client
    finally:
        await client.close()


async def error_of(client: GuardedClient, url: str, *, body: bytes = b"{}") -> HttpError:
    with pytest.raises(HttpError) as caught:
        await client.post(url, body=body, headers={})
    return caught.value


def certificate(directory: Path, *names: str, days: int = 30) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A self-signed certificate: the server's context, and one of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Trunkline's test")])
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=60))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(exist_ok=True)
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return server, ssl.create_default_context(cafile=str(directory / "cert.pem"))
