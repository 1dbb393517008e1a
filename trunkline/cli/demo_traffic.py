"""The shop of the demonstration: visitors of a website, users of an app and the shop's own server, as their SDKs send.

Every visit is a small story (look around, put something in the cart, sign in, pay), many run at once, and what a
customer does in the browser has its consequences on the server. On purpose some events are sent twice, as an SDK does
whose first answer got lost, and some are wrong, as a release with a mistake in it would send them.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

WEB: Final = "shop-web"
APP: Final = "shop-app"
SERVER: Final = "shop-server"
SOURCES: Final[dict[str, str]] = {WEB: "javascript", APP: "ios", SERVER: "node"}
"""Slugs and types of the sources."""

VISITS_AT_ONCE: Final = 40
DUPLICATE_SHARE: Final = 0.03
INVALID_SHARE: Final = 0.015
_REMEMBERED: Final = 200

Event = dict[str, Any]
Visit = Iterator[tuple[str, Event]]

_PRODUCTS: Final = (
    ("p-100", "Espresso Machine", "Kitchen", 249.0),
    ("p-101", "Pour-over Kettle", "Kitchen", 59.9),
    ("p-102", "Burr Grinder", "Kitchen", 129.0),
    ("p-103", "Ceramic Mug", "Tableware", 14.5),
    ("p-104", "Travel Cup", "Tableware", 24.0),
    ("p-105", "House Blend, 1 kg", "Coffee", 21.9),
    ("p-106", "Decaf, 500 g", "Coffee", 12.4),
    ("p-107", "Paper Filters", "Coffee", 4.2),
)
_FIRST_NAMES: Final = ("Ada", "Bela", "Chidi", "Dana", "Emre", "Femi", "Grete", "Hana", "Ines", "Jo", "Kofi", "Lena")
_LAST_NAMES: Final = ("Abe", "Berg", "Costa", "Diaz", "Eze", "Fox", "Gupta", "Holm", "Ito", "Kaya", "Lund", "Moreau")
_COMPANIES: Final = (("c-1", "Corner Café"), ("c-2", "Harbour Hotel"), ("c-3", "Studio Nord"))
_CAMPAIGNS: Final = (
    None,
    None,
    {"source": "newsletter", "medium": "email", "name": "spring-sale"},
    {"source": "search", "medium": "cpc", "name": "espresso"},
)
_LOCALES: Final = ("de-DE", "en-GB", "en-US", "fr-FR", "ja-JP", "pt-BR")
_BROWSERS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605",
)


@dataclass(frozen=True, slots=True)
class Call:
    """One event as one source sends it."""

    source: str
    event: Event

    @property
    def label(self) -> str:
        """The name of a track event, the type of any other."""
        name = self.event.get("event") if self.event["type"] == "track" else None
        return name if isinstance(name, str) else str(self.event["type"])


class Shop:
    """An endless stream of calls."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._visits = [self._visit() for _ in range(VISITS_AT_ONCE)]
        self._server_calls: deque[Event] = deque()
        self._sent: deque[Call] = deque(maxlen=_REMEMBERED)

    def next(self) -> Call:
        """The next call of whoever comes next."""
        chance = self._random.random()
        if chance < DUPLICATE_SHARE and self._sent:
            return self._random.choice(self._sent)
        if chance < DUPLICATE_SHARE + INVALID_SHARE:
            return Call(*self._invalid())
        if self._server_calls:
            call = Call(SERVER, self._server_calls.popleft())
        else:
            place = self._random.randrange(len(self._visits))
            step = next(self._visits[place], None)
            if step is None:
                self._visits[place] = self._visit()
                step = next(self._visits[place])
            call = Call(*step)
        self._sent.append(call)
        return call

    # -- visits --------------------------------------------------------------------------------------------------

    def _visit(self) -> Visit:
        return self._app_visit() if self._random.random() < 0.3 else self._web_visit()

    def _web_visit(self) -> Visit:
        random = self._random
        visitor = _Visitor(random)
        campaign = random.choice(_CAMPAIGNS)
        base = {
            "library": {"name": "analytics.js", "version": "next-1.81.0"},
            "userAgent": random.choice(_BROWSERS),
            "locale": random.choice(_LOCALES),
            "timezone": "Europe/Berlin",
        } | ({"campaign": campaign} if campaign else {})

        def context(path: str, title: str) -> Event:
            url = f"https://shop.example.com{path}"
            return base | {"page": {"path": path, "title": title, "url": url, "referrer": "", "search": ""}}

        def page(path: str, title: str) -> tuple[str, Event]:
            here = context(path, title)
            return WEB, self._event("page", visitor, here, name=title, properties=dict(here["page"]))

        def track(name: str, path: str, properties: Event) -> tuple[str, Event]:
            return WEB, self._event("track", visitor, context(path, name), event=name, properties=properties)

        yield page("/", "Home")
        cart: list[tuple[str, str, str, float]] = []
        for product in random.sample(_PRODUCTS, random.randint(1, 4)):
            path = f"/products/{product[0]}"
            yield page(path, product[1])
            yield track("Product Viewed", path, _product(product))
            if random.random() < 0.45:
                cart.append(product)
                yield track("Product Added", path, _product(product) | {"cart_id": visitor.cart_id, "quantity": 1})
        if not cart or random.random() < 0.2:
            return
        lines = {"cart_id": visitor.cart_id, "products": [_product(product) for product in cart]}
        yield track("Cart Viewed", "/cart", lines)
        if random.random() < 0.3:
            return
        yield track("Checkout Started", "/checkout", lines | {"value": _total(cart)})
        is_new = visitor.sign_in(random)
        yield WEB, self._event("identify", visitor, context("/checkout", "Checkout"), traits=visitor.traits)
        if is_new:
            alias = self._event("alias", visitor, context("/checkout", "Checkout"), previousId=visitor.anonymous_id)
            yield WEB, alias
            yield track("Signed Up", "/checkout", {"plan": random.choice(("guest", "club"))})
        if random.random() < 0.15:
            company_id, company = random.choice(_COMPANIES)
            traits = {"name": company, "plan": "business", "employees": random.randint(3, 80)}
            yield WEB, self._event("group", visitor, context("/account", "Account"), groupId=company_id, traits=traits)
        if random.random() < 0.8:
            yield track("Payment Info Entered", "/checkout", {"payment_method": random.choice(("card", "transfer"))})
            self._order(visitor, cart)

    def _app_visit(self) -> Visit:
        random = self._random
        visitor = _Visitor(random)
        visitor.sign_in(random)
        context = {
            "library": {"name": "analytics-swift", "version": "1.8.0"},
            "app": {"name": "Shop", "version": "4.2.0", "build": "421"},
            "device": {"manufacturer": "Apple", "model": "iPhone15,2", "type": "ios", "id": visitor.anonymous_id},
            "os": {"name": "iOS", "version": "18.1"},
            "locale": random.choice(_LOCALES),
        }

        def track(name: str, properties: Event) -> tuple[str, Event]:
            return APP, self._event("track", visitor, context, event=name, properties=properties)

        yield track("Application Opened", {"from_background": random.random() < 0.5, "version": "4.2.0"})
        yield APP, self._event("screen", visitor, context, name="Home")
        for product in random.sample(_PRODUCTS, random.randint(1, 3)):
            yield APP, self._event("screen", visitor, context, name="Product", properties=_product(product))
            yield track("Product Viewed", _product(product))
            if random.random() < 0.25:
                yield track("Product Added", _product(product) | {"cart_id": visitor.cart_id, "quantity": 1})
                self._order(visitor, [product])

    def _order(self, visitor: _Visitor, cart: list[tuple[str, str, str, float]]) -> None:
        """What the shop's server tells once the payment is through."""
        context = {"library": {"name": "@segment/analytics-node", "version": "2.3.0"}}
        order = {
            "order_id": f"o-{self._random.randrange(10**6):06}",
            "revenue": _total(cart),
            "currency": "EUR",
            "products": [_product(product) for product in cart],
        }
        self._server_calls.append(self._event("track", visitor, context, event="Order Completed", properties=order))
        if self._random.random() < 0.5:
            shipped = {"order_id": order["order_id"], "carrier": self._random.choice(("post", "bike"))}
            self._server_calls.append(self._event("track", visitor, context, event="Order Shipped", properties=shipped))

    def _invalid(self) -> tuple[str, Event]:
        """An event that a mistake in an app makes."""
        visitor = _Visitor(self._random)
        context = {"library": {"name": "analytics-swift", "version": "1.8.0"}}
        match self._random.randrange(3):
            case 0:
                return APP, self._event("track", visitor, context, properties={"screen": "Product"})
            case 1:
                event = self._event("identify", visitor, context, traits={"plan": "club"})
                del event["anonymousId"]
                return SERVER, event
            case _:
                return WEB, self._event("track", visitor, context, event="Product Viewed", properties=["p-100"])

    def _event(self, kind: str, visitor: _Visitor, context: Event, **fields: Any) -> Event:
        event = {
            "type": kind,
            "messageId": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "anonymousId": visitor.anonymous_id,
            "context": context,
            "integrations": {},
        }
        if visitor.user_id is not None:
            event["userId"] = visitor.user_id
        return event | fields


class _Visitor:
    """Somebody, anonymous until signed in."""

    def __init__(self, random: Random) -> None:
        self.anonymous_id = str(uuid.UUID(int=random.getrandbits(128), version=4))
        self.cart_id = f"cart-{random.randrange(10**6):06}"
        self.user_id: str | None = None
        self.traits: Event = {}

    def sign_in(self, random: Random) -> bool:
        """Whether the account is a new one."""
        first, last = random.choice(_FIRST_NAMES), random.choice(_LAST_NAMES)
        self.user_id = f"u-{first}-{last}".lower()
        self.traits = {
            "firstName": first,
            "lastName": last,
            "email": f"{first}.{last}@example.com".lower(),
            "plan": random.choice(("guest", "club")),
        }
        return random.random() < 0.3


def _product(product: tuple[str, str, str, float]) -> Event:
    return dict(zip(("product_id", "name", "category", "price"), product, strict=True))


def _total(cart: list[tuple[str, str, str, float]]) -> float:
    return round(sum(product[3] for product in cart), 2)
