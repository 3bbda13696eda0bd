"""The command line: the verbs with their arguments, options and help. What a verb does is in a module of its own,
which is loaded when the verb is called, so that ``--help`` is quick.
"""
