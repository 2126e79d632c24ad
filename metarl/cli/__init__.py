"""The command line: arguments read and checked, subcommands run, results printed."""
