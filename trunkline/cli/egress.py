"""``trunkline egress``: which addresses do requests leave from, and what may they reach?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from trunkline.cli.in_force import workspace_in_force
from trunkline.cli.options import DataDirOption
from trunkline.cli.printing import console, paragraph, table
from trunkline.delivery.egress import EgressPolicy
from trunkline.delivery.outgoing import OutgoingAddress, outgoing_addresses, proxy_addresses


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("egress")(egress)


def egress(
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """List the addresses that requests leave from, for destinations that let only known addresses in.

    Asks no outside service, so an address behind a gateway is listed as this machine has it. Run it where the worker
    runs; it works beside a running server.

    Exit status: 0 shown, 1 requests cannot leave as the workspace says, 2 there is no workspace.
    """
    policy = EgressPolicy.of(workspace_in_force(data_dir).egress)
    addresses = outgoing_addresses(policy)
    proxied = list(proxy_addresses(policy.proxy)) if policy.proxy else []
    notes = _notes(policy, addresses, proxied)
    if as_json:
        typer.echo(json.dumps(_as_json(policy, addresses, proxied, notes), indent=2))
    else:
        _print(policy, addresses, proxied, notes)
    good = any(item.error is None for item in addresses) and (proxied or policy.proxy is None)
    raise typer.Exit(0 if good and not any(item.error for item in addresses) else 1)


def _notes(policy: EgressPolicy, addresses: Sequence[OutgoingAddress], proxied: list[str]) -> list[str]:
    notes = []
    for item in addresses:
        if item.error is not None:
            notes.append(
                f"{item.address} can't be bound here ({item.error}), so requests from it fail. Run this where the "
                "worker runs, give the machine the address, or correct egress.source_address."
            )
        elif not item.public and policy.proxy is None:
            notes.append(
                f"{item.address} is private: outside of its network, peers see the public address of the NAT gateway "
                "on the way. Whoever runs the network knows that address; Trunkline asks no outside service for it."
            )
    if not addresses and (proxied or policy.proxy is None):
        notes.append("This machine has no way out: neither IPv4 nor IPv6 has a route.")
    if policy.proxy is not None:
        if not proxied:
            notes.append("The name of the proxy can't be resolved, so no request leaves. Correct egress.proxy.")
        notes.append(
            "Destinations see the address that the proxy itself sends from, so that is the one to let in; the "
            "addresses above are what the proxy sees."
        )
    elif not policy.source_address:
        notes.append(
            "The system chose these addresses, and may choose others. egress.source_address names them for good."
        )
    return notes


def _as_json(
    policy: EgressPolicy, addresses: Sequence[OutgoingAddress], proxied: list[str], notes: list[str]
) -> dict[str, Any]:
    proxy = policy.proxy
    return {
        "addresses": [
            {
                "address": str(item.address),
                "version": item.address.version,
                "named": item.named,
                "public": item.public,
                "error": item.error,
            }
            for item in addresses
        ],
        "proxy": proxy and {"url": proxy.url, "credentials": proxy.username is not None, "addresses": proxied},
        "policy": {
            "allow_private": [str(network) for network in policy.allow_private],
            "allow_ports": list(policy.allow_ports),
            "https_only": policy.https_only,
        },
        "notes": notes,
    }


def _print(policy: EgressPolicy, addresses: Sequence[OutgoingAddress], proxied: list[str], notes: list[str]) -> None:
    screen = console()
    screen.print("Requests to destinations leave from")
    listed = table("", "address", "", "chosen by", "state")
    for item in addresses:
        listed.add_row(
            "",
            str(item.address),
            "public" if item.public else "private",
            "egress.source_address" if item.named else "the system",
            item.error or "ready",
        )
    if addresses:
        screen.print(listed)
    else:
        screen.print(" no address")
    if policy.proxy is not None:
        credentials = ", with credentials" if policy.proxy.username is not None else ""
        screen.print(f"through the proxy {policy.proxy.url} ({', '.join(proxied) or 'not found'}){credentials}")
    screen.print()
    screen.print("They may reach")
    private = ", ".join(map(str, policy.allow_private)) or "none"
    ports = ", ".join(map(str, policy.allow_ports)) or "none"
    schemes = "https only" if policy.https_only else "http and https"
    paragraph(screen, f"public addresses, by {schemes}", indent=1)
    paragraph(screen, f"private networks that are listed: {private}", indent=1)
    paragraph(screen, f"ports of other protocols that are listed: {ports}", indent=1)
    for note in notes:
        screen.print()
        paragraph(screen, note)
