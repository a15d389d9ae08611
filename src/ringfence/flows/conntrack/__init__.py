"""What one host's kernel tells of its traffic: connections it tracks (ctnetlink), packets its rules logged (NFLOG)."""
