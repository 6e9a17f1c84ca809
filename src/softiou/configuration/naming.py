"""Names of objects of Python, for records that cannot hold the objects."""


def qualified_name(thing: object) -> str:
    """Return module and name of a class or function, or of the class of an object.

    Example:
        >>> qualified_name(qualified_name), qualified_name({}.items())
        ('softiou.configuration.naming.qualified_name', 'builtins.dict_items')
    """
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
