"""Tests of killed processes, system faults, and invalid or hostile input; see __main__."""
