"""An application whose hooks are answered by plug-ins of third parties, each in an environment of its own."""
