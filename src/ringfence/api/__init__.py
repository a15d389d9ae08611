"""HTTP over the controller's services; no decision is made here."""
