"""What was said between a destination and its peer, for the samples of what failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trunkline.destinations.kit import SAMPLE_BYTES, Exchange, HttpResponse
from trunkline.destinations.masking import SHORTEST_SECRET, mask_headers, mask_url, scrub, secrets_in, secrets_in_url

DETAIL_LENGTH: Final = 200
_COMPUTED_SECRETS: Final = ("x-signature",)


class Recorder:
    """Makes the exchanges of one destination. ``own_headers`` are its settings': all their values are masked."""

    def __init__(self, url: str, own_headers: Mapping[str, str], *other_secrets: str) -> None:
        self._url = mask_url(url)
        self._secret_names = frozenset([*(name.lower() for name in own_headers), *_COMPUTED_SECRETS])
        own = {*other_secrets, *secrets_in(own_headers), *secrets_in_url(url)}
        self._secrets = sorted((secret for secret in own if len(secret) >= SHORTEST_SECRET), key=len, reverse=True)
        self._longest = max((len(secret.encode()) for secret in self._secrets), default=0)

    def exchange(self, headers: Mapping[str, str], body: bytes, response: HttpResponse | None) -> Exchange:
        """``body``: its first :data:`SAMPLE_BYTES` are enough. ``response`` None: there was no answer."""
        return Exchange(
            method="POST",
            url=self._url,
            request_headers=mask_headers(headers, secret_names=self._secret_names, secrets=self._secrets),
            request_body=self._beginning(body, SAMPLE_BYTES),
            status=response.status if response else 0,
            response_headers=mask_headers(response.headers, secrets=self._secrets) if response else {},
            response_body=self._beginning(response.body, SAMPLE_BYTES) if response else "",
        )

    def detail(self, response: HttpResponse) -> str:
        """One line for people: where a redirect leads to, otherwise how the answer begins."""
        if 300 <= response.status < 400:
            target = mask_url(response.headers.get("Location", ""))[:DETAIL_LENGTH]
            leads = f"a redirect to {target}" if target else "a redirect"
            return scrub(f"{leads}, and redirects are not followed: put the final address into url", self._secrets)
        return self._beginning(response.body, DETAIL_LENGTH)

    def clean(self, text: str) -> str:
        """Another's text, cut for a detail."""
        return scrub(text, self._secrets)[:DETAIL_LENGTH]

    def _beginning(self, body: bytes, size_bytes: int) -> str:
        # A secret that stands across the cut must be seen whole to be masked.
        text = scrub(body[: size_bytes + self._longest].decode("utf-8", "replace"), self._secrets)
        return text.encode()[:size_bytes].decode("utf-8", "ignore")
