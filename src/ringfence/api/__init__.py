"""The HTTP API: a thin skin over the controller's services. It decides nothing."""
