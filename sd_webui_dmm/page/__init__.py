"""What people see and press, and what it asks the server."""
