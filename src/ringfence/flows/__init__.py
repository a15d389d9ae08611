"""Sources of flow records, one folder each, and the pipeline from their text to labelled conversations."""
