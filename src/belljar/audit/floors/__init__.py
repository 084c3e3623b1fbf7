"""Floors: the oldest glibc, libstdc++, kernel, ... on which a file runs, and what each is known by."""
