"""Define the commands of `brainmap rsa`, one module per command."""
