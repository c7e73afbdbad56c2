"""What the site is built with beside Sphinx: the API's pages, links, formulas."""
