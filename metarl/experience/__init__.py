"""Experience: rollouts of many lanes at once, and what they are made of."""
