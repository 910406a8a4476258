"""The fault kit: real processes, real faults, and a judge outside both of them. `python -m tests.faults NAME`."""
