"""One bench a block; see `dyadprop_sim.benches`."""
