"""Benches of every block in cocotb: against the golden arithmetic, under Verilator and Icarus.

``python -m dyadprop_sim.benches --sim verilator --block lane`` (or ``make sim``) runs one;
`dyadprop_sim.benches.runner` says how.
A bench is a module of `dyadprop_sim.benches.blocks`: the designs it tests, a model, and tests. What benches are made
of:

- `ports`: values of the hardware's shapes on a simulator's signals
- `streams`: drivers and monitors of ready/valid streams; `pipes`: of blocks that never wait
- `checker`: expectations, in order, and what came
- `testbench`: clock, reset, seeds, and an end that proves that something was compared
"""
