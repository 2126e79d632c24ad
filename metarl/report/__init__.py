"""Reports: pages, plots, pictures and tables of what was measured."""
