"""The commands, one file each: the only room that parses arguments, prints and exits."""
