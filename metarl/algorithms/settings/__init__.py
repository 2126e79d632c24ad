"""What can be set of each algorithm, in modules that need no torch: a wrong config answers at once.

The first line of a class's docstring is what ``metarl list`` says of the algorithm.
"""
