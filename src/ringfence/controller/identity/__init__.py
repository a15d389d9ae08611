"""Who is who: certificates, the addresses hosts claim, and who is there."""
