"""The gateware: turns a network into an Amaranth component."""
