"""What configurations require of their values, as errors that say what is allowed."""


def require(holds: bool, name: str, got: object, allowed: str) -> None:
    """Raise a ValueError that says what was got and what is allowed, unless the value is right."""
    if not holds:
        raise ValueError(f"got {name} = {got}; allowed is {allowed}")


def require_positive(config: object, *names: str) -> None:
    """Raise unless each field is a number above 0, or a tuple of such numbers."""
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        require(all(number > 0 for number in numbers), name, value, "above 0")


def require_fraction(config: object, *names: str) -> None:
    """Raise unless each field lies in [0, 1]."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value <= 1, name, value, "0 to 1")


def require_at_least_0(config: object, *names: str) -> None:
    """Raise unless each field is 0 or more."""
    for name in names:
        value = getattr(config, name)
        require(value >= 0, name, value, "0 or more")
