"""Pushes told by those who took them: registries, hosted ones and event buses call POST /hooks/NAME.

What they tell is a hint and never a truth: it may cause a look (HEAD) at a tag of the one registry that the configuration
binds the address to. Nothing in a body chooses a host, an address or a credential (hostile 130).
"""
