"""What every host must enforce: worked out from the state, followed change by change, sent to whom it is for."""
