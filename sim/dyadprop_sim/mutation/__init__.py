"""Mutants of the gateware: how many deliberate faults in an elaborated network the bench finds."""
