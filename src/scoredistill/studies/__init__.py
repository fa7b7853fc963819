"""Comparisons of methods behind the results pages: each study is a package with the same files, run by `harness`."""
