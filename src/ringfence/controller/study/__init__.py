"""Questions about the estate: maps, tables, reach, posture, recommendations, drafts. Nothing here changes anything."""
