"""The command line: words, tables and exit codes over the core. It decides nothing."""
