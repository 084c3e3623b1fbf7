"""Programs that hold many directories open get each entry once, though all are listed in order."""

from test_run_laws import place, shell

__all__ = ["place"]
WALK = """
import os
def walk(top):
    return sum(1 + (walk(e.path) if e.is_dir(follow_symlinks=False) else 0) for e in os.scandir(top))
print(walk("."))
"""


def test_who_lists_many_directories_at_once_gets_each_entry_once(place):
    for number in range(400):
        (place.project / f"d{number}/x").mkdir(parents=True)
    place.write("walk.py", WALK)
    assert shell(place, "python3 walk.py").stdout == "801\n"
