"""Verbs of the command line that need the golden model (see dyadprop.commands)."""
