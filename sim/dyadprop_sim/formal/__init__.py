"""Proofs by bounded model checking: ``make formal`` (see `dyadprop_sim.formal.properties` for what is proved)."""
