"""Labellers around a labeller: a file for each."""
