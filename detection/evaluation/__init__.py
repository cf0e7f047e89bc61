"""Evaluation protocols, on the CPU."""
