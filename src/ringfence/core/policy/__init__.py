"""The policy language: text to values, values to findings, values back to text."""
