"""The commands: the only room that parses arguments, prints and exits."""
