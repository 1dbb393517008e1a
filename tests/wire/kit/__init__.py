"""What the wire tests are made of: the product as a process, a proxy with faults, a sink, and the SDKs' drivers."""
