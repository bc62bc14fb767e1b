"""The commands of `brainmap rsa`, one module a command."""
