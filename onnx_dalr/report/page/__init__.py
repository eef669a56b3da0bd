"""The HTML report: one file that needs nothing else, made of neutral parts, a template and plots."""
