"""Labs: one YAML file describes a LAN and the steps to run on it.

The way of a lab through this package::

    source.py     a path, a name or "-"  →  text
    tree.py       text                   →  plain data, and the place of each value
    schema/       plain data             →  what the file says (pydantic); mistakes.py shows what is wrong and where
    planner.py    what it says           →  what it means: plan.py, steps/*.py (frozen dataclasses)
    runner.py     a plan                 →  a session, the steps in order  →  report.py

``taking.py`` takes one step: within its time (``limits.py``), held to what it expects (``expect.py``), with hints where
to look when it fails (``hints.py``).

A new kind of step is one file in ``steps/``, its keys in ``schema/`` and one line in ``planner.py``; the published
schema and the tables of docs/labs.md follow from the keys.  A new kind of node is its word in ``schema.KINDS`` and its
way onto the LAN in ``session.py``.
"""
