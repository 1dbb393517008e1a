"""The ``trunkline`` command, one file a subcommand."""
