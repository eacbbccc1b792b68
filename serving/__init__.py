"""How the world reaches it: settings, composition, wires, command line."""
