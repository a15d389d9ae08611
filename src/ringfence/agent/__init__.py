"""The agent: keeps one host at the last policy it was given, and says truthfully what is realised there."""
