"""What turns a text into D numbers."""
