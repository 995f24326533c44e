"""The callbacks journey: a callback is stored before it is read, then matched by its token, read and applied."""
