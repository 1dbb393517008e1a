"""FQL, the language of filters, conditions and triggers (``spec/event_path.md`` §5, §6.2).

``parse_fql`` reads text into a ``Query``, ``compile_fql`` makes it a predicate on events (closures, and a function of
its own once it is asked often), ``format_fql`` writes it, ``constants`` tells route tables what it asks of ``type`` and
``event``, and ``to_ir`` gives the form that browsers take. The three dialects differ as the table in ``dialects`` says.
"""

from trunkline.fql.compiler import compile_fql
from trunkline.fql.constants import Constants, constants
from trunkline.fql.dialects import DEVICE, FILTER, TRIGGER, Dialect
from trunkline.fql.errors import FqlError, FqlSyntaxError, FqlUnsupportedError
from trunkline.fql.ir import from_ir, to_ir, to_matcher
from trunkline.fql.lexer import MAX_FQL_BYTES
from trunkline.fql.parser import parse_fql
from trunkline.fql.printer import format_fql
from trunkline.fql.tree import Query

__all__ = [
    "DEVICE",
    "FILTER",
    "MAX_FQL_BYTES",
    "TRIGGER",
    "Constants",
    "Dialect",
    "FqlError",
    "FqlSyntaxError",
    "FqlUnsupportedError",
    "Query",
    "compile_fql",
    "constants",
    "format_fql",
    "from_ir",
    "parse_fql",
    "to_ir",
    "to_matcher",
]
