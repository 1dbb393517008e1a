"""PyPI segment-analytics-python, or analytics-python (its predecessor): ``OPTIONS.module`` says which.

Commands come as JSON lines on stdin, one answer a line goes to stdout. Whatever else appears there or on stderr is
the SDK's own output; its log is sent to stderr.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from datetime import datetime
from typing import Any

NAMES = {
    "userId": "user_id",
    "anonymousId": "anonymous_id",
    "groupId": "group_id",
    "previousId": "previous_id",
    "messageId": "message_id",
}


def main() -> None:
    options = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    sdk: Any = importlib.import_module(options["module"])
    sdk.write_key = options["writeKey"]
    sdk.host = options["host"]
    sdk.gzip = options["gzip"]
    sdk.on_error = lambda error, items: print(f"gave up {len(items)}: {error}", file=sys.stderr)

    def answer(value: object) -> None:
        print("@@" + json.dumps(value), flush=True)

    answer({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "close":
            sdk.flush()
            answer({"closed": True})
            return
        call: dict[str, Any] = dict(command["call"])
        method = call.pop("type")
        if "timestamp" in call:
            call["timestamp"] = datetime.fromisoformat(call["timestamp"])
        getattr(sdk, method)(**{NAMES.get(name, name): value for name, value in call.items()})
        answer({"called": method})


if __name__ == "__main__":
    main()
