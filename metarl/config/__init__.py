"""The configuration of a run: YAML and command line, validated as one model."""
