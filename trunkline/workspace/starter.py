"""The workspace that a first start begins with."""

from __future__ import annotations

from typing import Final

STARTER_SOURCE: Final = "my-app"
STARTER_DESTINATION: Final = "inbox"

_STARTER: Final = """\
# The workspace: where events come from and where they go.
# Trunkline watches this file and takes a change over at once, without a restart. A mistake changes nothing:
# `trunkline check FILE` says what to mend, and so does http://127.0.0.1:{port}/health
workspace:
  slug: my-workspace
  name: My workspace

# A source is one website, app or server. Its SDK names it by a write key; try it:
#   curl -u {write_key}: http://127.0.0.1:{port}/v1/track \\
#     -d '{{"userId": "u1", "event": "Signed Up", "properties": {{"plan": "pro"}}}}'
# Use type `javascript` for websites and `ios`, `android` and so on for apps: only then are the visitor's address
# and user agent added to events.
sources:
  - slug: {source}
    name: My app
    type: http
    write_keys: ["{write_key}"]

# A destination takes the events of its sources. It is off until it says `enabled: true`.
destinations:
  # Writes events to a file in the data directory, so that you can see what arrives.
  - slug: {destination}
    name: Inbox
    type: inbox
    sources: [{source}]
    enabled: true

  # Sends each event's JSON to an address of yours. Secrets may come from the environment, {{env: NAME}}, or from
  # a file, {{file: PATH}}.
  # - slug: hook
  #   name: My webhook
  #   type: webhook
  #   sources: [{source}]
  #   enabled: true
  #   settings:
  #     url: https://example.com/events
  #     headers: {{Authorization: {{env: HOOK_AUTHORIZATION}}}}

# Destinations may not reach private networks (this machine, 10.0.0.0/8 and so on) unless they are listed here.
# egress:
#   allow_private: ["127.0.0.0/8"]
"""


def starter_yaml(write_key: str, port: int) -> str:
    """A commented file with one source that owns the write key, and an inbox that shows what arrives."""
    return _STARTER.format(write_key=write_key, port=port, source=STARTER_SOURCE, destination=STARTER_DESTINATION)
