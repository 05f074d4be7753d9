"""How the tables came to be, one revision a file; run by service/store.py when it opens a database."""
