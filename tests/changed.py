"""An equation's splitting or scaling limit with a few of its members changed, for mutants."""

import dataclasses
import functools


class changed:
    """`splitting = changed(kick=lambda s, t, state, signal, noise, dt: ...)` in the body of an equation's class.

    What is changed is what the classes above it return. A function takes the unchanged object first, as a method takes
    `super()`; what the others call of each other is what has been changed. A plain value stands in place of an attribute
    or of a property. So it goes for `scaling_limit` too: the attribute's name tells which.
    """

    def __init__(self, **members):
        self.members, self.kinds = members, {}

    def __set_name__(self, owner, name):
        self.owner, self.name = owner, name

    def __get__(self, equation, kind=None):
        return self if equation is None else functools.partial(self, equation)

    def __call__(self, equation):
        unchanged = getattr(super(self.owner, equation), self.name)()
        kind = type(unchanged)
        if kind not in self.kinds:
            self.kinds[kind] = self._subclass(kind)
        values = {field.name: getattr(unchanged, field.name) for field in dataclasses.fields(unchanged) if field.init}
        return self.kinds[kind](**values | {name: self.members[name] for name in values if name in self.members})

    def _subclass(self, kind):
        """Of `kind`, with all members but its fields."""
        fields = {field.name for field in dataclasses.fields(kind) if field.init}
        new = type(f"Changed{kind.__name__}", (kind,), {"__module__": __name__})
        for name, member in self.members.items():
            if not hasattr(kind, name):
                raise AttributeError(f"{kind.__name__} has no {name!r}")
            if name not in fields:
                setattr(new, name, _member(new, member, property if _is_property(kind, name) else None))
        return new


class _Unchanged:
    """The members of an object as they are above a class of it."""

    def __init__(self, kind, thing):
        self._kind, self._thing = kind, thing

    def __getattr__(self, name):
        if name in {field.name for field in dataclasses.fields(self._thing)}:
            return getattr(self._thing, name)
        return getattr(super(self._kind, self._thing), name)


def _is_property(kind, name):
    return isinstance(getattr(kind, name), property)


def _member(kind, given, wrapper):
    if not callable(given):
        return given

    def member(self, *args):
        return given(_Unchanged(kind, self), *args)

    return member if wrapper is None else wrapper(member)
