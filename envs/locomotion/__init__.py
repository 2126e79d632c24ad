"""Robots of Gymnasium's MuJoCo models that must find out how to move, or with which body."""
