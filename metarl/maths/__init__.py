"""Maths: tensors in, tensors out. Nothing here knows of environments, configs or logging."""
