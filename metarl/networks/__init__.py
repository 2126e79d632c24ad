"""Networks as functions of explicit parameters, and the passes that carry their derivatives."""
