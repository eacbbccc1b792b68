"""What the system can do: tools behind one port, with a policy in front."""
