"""Student circuits: files to circuits, and where the files are found."""
