"""What in docs/ is made and not written: pictures of methods, rows of tables, options. `python -m docs.make`."""
