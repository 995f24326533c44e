"""Data that goes: retention removes what is old, and erasure removes what somebody asks to be forgotten."""
