"""The log on local files: no server, several processes, one directory."""

from trunkline.log.embedded.appender import EmbeddedAppender
from trunkline.log.embedded.engine import SEGMENT_BYTES, EmbeddedLog
from trunkline.log.embedded.reader import EmbeddedReader

__all__ = ["SEGMENT_BYTES", "EmbeddedAppender", "EmbeddedLog", "EmbeddedReader"]
