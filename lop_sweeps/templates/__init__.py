"""What `lop-new` writes (lop_sweeps/new.py): files that run as they are, with names that are replaced.

`my_KIND` becomes the name that was asked for, and `MyKind` the same as the name of a class.
"""
