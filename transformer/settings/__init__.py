"""The settings from YAML files and the command line, and back."""
