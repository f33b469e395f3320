"""Verbs of the command line that need boards; `dyadprop.cli` finds them through entry points."""
