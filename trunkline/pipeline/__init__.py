"""The stages that an event passes, in the one order that counts. No I/O in here."""
