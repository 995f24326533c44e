"""Cheap copies of values with many fields."""

from typing import Any, Self


class Copied:
    """A frozen dataclass without slots. A copy of its ``__dict__`` takes a tenth of the time of setting 60 fields one by one."""

    def changed(self, **fields: Any) -> Self:
        """Return the value with others in some fields; the value itself where none differs."""
        differing = {name: value for name, value in fields.items() if getattr(self, name) != value}
        return self.of({**self.__dict__, **differing}) if differing else self

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """Return the value with these fields, which must be all of them. It keeps the dictionary."""
        value = object.__new__(cls)
        object.__setattr__(value, "__dict__", fields)
        return value
