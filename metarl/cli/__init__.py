"""The command line: what is typed, what is told, how programs end."""
