"""Reports as single HTML files, with text, tables, image grids, videos and charts."""
