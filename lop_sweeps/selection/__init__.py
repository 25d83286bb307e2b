"""Choosing hyper-parameters: the same budget for each method, on seeds that the result does not use.

`methods` says what is tried, `halving` which settings go on, `record` what is written down, `select` runs it all.
"""
