"""The raw archive: every accepted event in an object store, by source and received day, with an index of its own."""
