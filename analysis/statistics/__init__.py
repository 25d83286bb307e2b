"""From the runs of a method to a number with its interval, from two methods to what can be said of their difference.

Arrays and frames in, arrays and frames out; nothing here reads a file or knows what a figure is.
"""
