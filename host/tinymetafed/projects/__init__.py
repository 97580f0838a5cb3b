"""What a user begins with: a new project folder, an imported model, a check of this machine."""
