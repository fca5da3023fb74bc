"""Reports of a study: a page, Markdown, tables and figures."""
