"""Recorded data: one form in memory, files, collectors."""
