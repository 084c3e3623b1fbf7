"""Python environments move: a virtual one with console scripts, a conda-like one with its own interpreter.

They are made at the old place by Debian's Python, and used where the old place is covered.
"""

import base64
import csv
import hashlib
import json
import re
import shutil

import pytest
from foreign_forms import inside

from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.plan import plan
from belljar.relocate.moving import apply
from belljar.sandbox import Bind, Tmpfs

OLD = "/opt/environments/analysis"
VENV = "python3 -m venv --without-pip --prompt analysis $O"
CONDA = r"""
mkdir -p $O/bin $O/lib $O/conda-meta $O/lib/pkgconfig $O/etc/conda/activate.d
cp /usr/bin/python3.11 $O/bin/; ln -s python3.11 $O/bin/python3; ln -s $O/bin/python3.11 $O/bin/python
cp -r /usr/lib/python3.11 $O/lib/; rm -rf $O/lib/python3.11/__pycache__
sed -i "s#'/usr#'$O#g" $O/lib/python3.11/_sysconfigdata__*.py
mkdir $O/lib/python3; ln -s $O/lib/python3.11/site-packages $O/lib/python3/dist-packages  # Debian's name
printf 'prefix=%s\nexec_prefix=${prefix}\n' $O > $O/lib/pkgconfig/python3.pc
printf 'export W_HOME="%s/share"\n' $O > $O/etc/conda/activate.d/w.sh
"""
# What pip and setuptools write: a package, its byte code, a console script, an editable project, RECORD.
PACKAGE = r"""
site=$O/lib/python3.11/site-packages; mkdir -p $site/tool $O/src
printf 'import sys\ndef main():\n    print(sys.prefix, main.__code__.co_filename)\n' > $site/tool/__init__.py
printf 'WHERE = "%s/share"\n' $O > $site/tool/_config.py
printf 'print("editable")\n' > $O/src/linked.py; printf '%s/src\n' $O > $site/__editable__.linked-1.pth
printf '#!%s/bin/python3\n# -*- coding: utf-8 -*-\nimport re, sys\nfrom tool import main\n' $O > $O/bin/tool
printf 'if __name__ == "__main__":\n' >> $O/bin/tool
printf '    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])\n' >> $O/bin/tool
printf '    sys.exit(main())\n' >> $O/bin/tool
chmod +x $O/bin/tool
python3 -m compileall -q $site/tool
cat > /tmp/record.py <<'END'
import base64, csv, hashlib, os, sys
site = sys.argv[1]
os.mkdir(f"{site}/tool-1.dist-info")
names = ["__init__.py", "_config.py", "__pycache__/__init__.cpython-311.pyc", "../../../../bin/tool"]
with open(f"{site}/tool-1.dist-info/RECORD", "w", newline="") as file:
    for name in (os.path.normpath(f"tool/{name}") for name in names):
        data = open(f"{site}/{name}", "rb").read()
        coded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        csv.writer(file, lineterminator="\n").writerow([name, f"sha256={coded}", len(data)])
END
python3 /tmp/record.py $site
"""
USE = r"""
$O/bin/tool
$O/bin/python3 -c 'import linked, tool._config; print(tool._config.WHERE)'
if test -f $O/bin/activate; then . $O/bin/activate; test "$VIRTUAL_ENV" = $O; tool; fi
if test -d $O/conda-meta; then
    . $O/etc/conda/activate.d/w.sh; test "$W_HOME" = $O/share
    $O/bin/python -c 'import sysconfig as s; print(s.get_config_var("prefix"), s.get_path("stdlib"))'
    grep -q "$O/lib" $O/lib/python3.11/_sysconfigdata__*.py
fi
"""


@pytest.fixture(scope="module", params=["venv", "conda"])
def made(request, tmp_path_factory):
    tree = tmp_path_factory.mktemp(request.param) / "tree"
    tree.mkdir()
    first = VENV if request.param == "venv" else CONDA
    status, said, _ = inside(
        f"O={OLD}\n{first}\n{PACKAGE}", [Bind(source=str(tree), target=OLD, writable=True)]
    )
    assert status == 0, said
    if request.param == "conda":
        paths = [
            {
                "_path": "bin/tool",
                "sha256_in_prefix": hashlib.sha256((tree / "bin/tool").read_bytes()).hexdigest(),
            }
        ]
        (tree / "conda-meta/tool-1-0.json").write_text(
            json.dumps({"name": "tool", "paths_data": {"paths": paths}})
        )
    return tree


def used(tree, place):
    mounts = [Tmpfs(target=OLD), Bind(source=str(tree), target=place, writable=True)]
    status, said, asked = inside(f"O={place}\n{USE}", mounts)
    return status, said, [path for path in asked if f"{path}/".startswith(f"{OLD}/")]


def is_recorded(tree):
    """Whether RECORD tells the truth."""
    site = tree / "lib/python3.11/site-packages"
    with (site / "tool-1.dist-info/RECORD").open() as file:
        for name, coded, size in csv.reader(file):
            data = (site / name).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            if (coded, int(size)) != (f"sha256={digest}", len(data)):
                return False
    return True


@pytest.mark.parametrize(
    "place", ["/srv/e".ljust(len(OLD), "x"), "/srv/e", "/srv/" + "longer-" * 5, "/srv/" + "deep/" * 30 + "e"]
)
def test_an_environment_works_at_a_path_of_any_length(made, tmp_path, place):
    tree = shutil.copytree(made, tmp_path / "tree", symlinks=True)
    assert used(tree, place)[0] != 0, "the control: the script's interpreter is not there"
    assert is_recorded(tree)
    found = plan(tree, Moves.of([(OLD, place)]))
    assert not found.refusals
    apply(found)
    assert is_recorded(tree)
    code = (tree / "lib/python3.11/site-packages/tool/__pycache__/__init__.cpython-311.pyc").read_bytes()
    status, said, old = used(tree, place)
    assert (status, old) == (0, []), said
    said = re.sub("/+", "/", said)  # what is shorter is filled
    assert re.search(rf"^{place} {place}/lib/python3[^ ]*/tool/__init__.py$", said, re.M)
    assert f"editable\n{place}/share\n" in said
    if (tree / "conda-meta").exists():
        assert f"{place} {place}/lib/python3.11" in said
        (recorded,) = json.loads((tree / "conda-meta/tool-1-0.json").read_text())["paths_data"]["paths"]
        assert recorded["sha256_in_prefix"] == hashlib.sha256((tree / "bin/tool").read_bytes()).hexdigest()
    if len(place) <= len(OLD):
        now = tree / "lib/python3.11/site-packages/tool/__pycache__/__init__.cpython-311.pyc"
        assert now.read_bytes() == code, "Python took the byte code as it is"
