"""A study's comparison as files: a page, tables, figures."""
