"""What people read of a run: tables, pictures, the page."""
