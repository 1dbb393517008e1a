from __future__ import annotations

from trunkline.ingest.options import IngestOptions
from trunkline.settings import Settings


def test_the_defaults_are_those_of_the_settings() -> None:
    settings = Settings()
    options = IngestOptions.from_settings(settings)
    assert options == IngestOptions()
    assert (options.max_connections, options.body_timeout_s) == (settings.max_connections, settings.body_timeout_s)
