"""The verbs of the command line, one a file; imported only when the verb is used."""
