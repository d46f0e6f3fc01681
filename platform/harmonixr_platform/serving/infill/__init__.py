"""One infill request from its schema to whole files. Uses neither HTTP nor Ray."""
