"""Verbs of the command line.

A verb is a module, named by an entry point of the group ``dyadprop.commands``:

- its docstring is the help; the first line is shown in the list of verbs,
- ``add_arguments(parser)`` adds its own options to the common ones (``dyadprop.cli``),
- ``run(args) -> int`` does the work and returns the exit code,
- ``DEFAULT_DEVICE``, if it is there, is opened when neither ``--device`` nor ``$DYADPROP_DEVICE`` names one.

What takes long to import is imported in ``run``.
"""
