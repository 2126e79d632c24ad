"""Small discrete environments whose best policies, and some best learners, can be computed."""
