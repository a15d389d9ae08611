"""The client of the API: what programs and the command line talk to a controller with."""
