"""The command line: the commands' arguments, options and help. The logic is in other modules, which a command imports
when it runs, so that ``--help`` is fast.
"""
