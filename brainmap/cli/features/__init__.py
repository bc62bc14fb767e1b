"""The commands of `brainmap features`, one module a command."""
