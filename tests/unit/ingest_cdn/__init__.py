"""The CDN, its files and their installation."""
