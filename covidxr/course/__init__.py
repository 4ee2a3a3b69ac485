"""Holds the course: exercises that check themselves, what you have solved, and a folder to work in.

A lesson needs `exercise` only; the rest is used by the commands `covidxr course` and `covidxr progress`.
"""

from .catalog import exercise
from .editions import course_map, write_course
from .progress import solved

__all__ = ["course_map", "exercise", "solved", "write_course"]
