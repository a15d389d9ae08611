"""The map as text that other tools read: JSON, Mermaid, Graphviz. Pure; everything a label says is escaped."""
