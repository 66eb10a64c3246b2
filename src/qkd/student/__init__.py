"""The student: its model, losses, metrics, training, and the folder it is kept in."""
