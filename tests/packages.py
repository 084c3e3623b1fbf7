"""Real packages of Debian, from examples/: proved relocatable, moved, and used where they were moved to.

`proved` builds one under two prefixes. `moved` installs it at A and from there at B. `used` runs a package's
own tests at B in a sandbox where A is an empty mount, under strace, and says which files were looked for
below either: that a program works does not show that it did not look.
"""

import re
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from belljar.archive.unpack import unpack
from belljar.build import Artifact, Options, build
from belljar.build.build import order_of
from belljar.build.environment import Environment, materialise
from belljar.build.output import EPOCH
from belljar.build.sandboxed import root_of
from belljar.home import Home
from belljar.placeholder import PLACEHOLDER
from belljar.recipe.fetch import fetch
from belljar.relocate.install import install, plan
from belljar.sandbox import Bind, Devices, Proc, Sandbox, Tmpfs, run
from belljar.store import Store, StoreName
from belljar.types import quiet

EXAMPLES = Path(__file__).parents[1] / "examples"

# What the use of a package needs besides itself.
_TOOLS = (
    *("bash", "coreutils", "dash", "diffutils", "findutils", "gawk", "gcc", "grep", "gzip", "libc6-dev"),
    *("make", "perl", "procps", "sed", "strace", "tar", "zlib1g-dev"),
)

USES: Mapping[str, str] = {
    "zlib": """
        prefix=$(sed -n 's/^prefix=//p' $PREFIX/lib/pkgconfig/zlib.pc)
        cat > t.c <<'C'
        #include <string.h>
        #include <zlib.h>
        int main(void) {
            unsigned char a[999] = "moved", b[999], c[999]; uLongf n = sizeof b, m = sizeof c;
            return compress(b, &n, a, sizeof a) || uncompress(c, &m, b, n) || m != 999 || memcmp(a, c, m);
        }
        C
        gcc t.c -I$prefix/include -L$prefix/lib -Wl,-rpath,$prefix/lib -lz -o t
        ./t
        """,
    "lua": """
        echo 'for i = 1, 3 do print(string.rep("x", i)) end' > t.lua
        $PREFIX/bin/luac -o t.out t.lua
        [ "$($PREFIX/bin/lua t.out | tail -n 1)" = xxx ]
        echo 'ok, why = pcall(require, "nothing"); assert(why:find(os.getenv("PREFIX"), 1, true))' > t.lua
        $PREFIX/bin/lua t.lua
        """,
    "sqlite": """
        prefix=$(sed -n 's/^prefix=//p' $PREFIX/lib/pkgconfig/sqlite3.pc)
        echo 'create table t(a primary key, b);
            with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)
            insert into t select i, hex(randomblob(99)) from n;
            pragma integrity_check; select sum(a) from t;' > t.sql
        [ "$($PREFIX/bin/sqlite3 t.db < t.sql | tr '\\n' ' ')" = 'ok 500500 ' ]
        printf '#include <sqlite3.h>\\nint main(void){sqlite3*d;return sqlite3_open(":memory:",&d);}' > t.c
        gcc t.c -I$prefix/include -L$prefix/lib -Wl,-rpath,$prefix/lib -lsqlite3 -o t
        ./t
        """,
    "jq": """
        cd /build/jq/tests
        for t in jq onig base64; do $PREFIX/bin/jq -L modules --run-tests $t.test | tail -n 1; done
        """,
    "perl": """
        cd /build/perl
        export PERL5LIB= PERL_MM_USE_DEFAULT=1
        $PREFIX/bin/perl -MConfig -e 'print "$Config{privlibexp}\\n"; -d $Config{archlibexp} or die'
        for d in cpan/Digest-SHA cpan/JSON-PP cpan/MIME-Base64 cpan/Scalar-List-Utils cpan/Test-Simple \\
            cpan/Text-ParseWords dist/Data-Dumper dist/Storable dist/Time-HiRes; do
            (cd $d; $PREFIX/bin/prove -Q -r t) > /tmp/log 2>&1 || { tail -n 30 /tmp/log; exit 1; }
            tail -n 2 /tmp/log | sed "s,^,$d: ,"
        done
        """,
    "python": """
        $PREFIX/bin/python3 -c 'import sys, sysconfig; print(sys.prefix, sysconfig.get_paths()["stdlib"])'
        # Not those that write below the prefix (test_import) or need further users (test_subprocess).
        $PREFIX/bin/python3 -m test test_grammar test_builtin test_json test_re test_zlib test_struct \\
            test_sysconfig test_site test_venv test_email test_compileall test_pydoc test_zipfile test_set \\
            test_unicode test_dict test_list test_shlex test_collections test_datetime test_decimal \\
            test_functools test_inspect test_typing test_ast test_string test_textwrap | tail -n 5
        """,
    "git": """
        cd /build/git
        flags='NO_GETTEXT=1 NO_TCLTK=1 NO_CURL=1 NO_EXPAT=1 NO_OPENSSL=1 NO_PYTHON=1'
        make -j2 $flags all > /tmp/made 2>&1 || { tail /tmp/made; exit 1; }
        cd t
        export GIT_TEST_INSTALLED=$PREFIX/bin
        for t in t0001-init t1006-cat-file t1300-config t2000-conflict-when-checking-files-out t3200-branch \\
            t3404-rebase-interactive t3903-stash t4015-diff-whitespace t5300-pack-object t5510-fetch \\
            t5601-clone t6000-rev-list-misc t7004-tag t7400-submodule-basic t7600-merge t9001-send-email; do
            bash ./$t.sh 2>&1 | tail -n 1 | sed "s/^/$t: /"
        done
        """,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How a use ended: exit status, what it said, how many paths it named below the old and the new place."""

    status: int
    said: str
    below_old: tuple[str, ...]
    below_new: int


def proved(name: str, home: Home, scratch: Path, *, jobs: int = 2) -> Artifact:
    """Build an example under two prefixes and return the artifact with its proof."""
    return build(_recipe(name, scratch), home=home, options=Options(jobs=jobs, prove=True))


def moved(artifact: Artifact, home: Home, old: Path, new: Path) -> StoreName:
    """Install at `old`, and from there at `new`."""
    install(plan(Store(directory=home.store), artifact.name, old))
    install(plan(Store(directory=old), artifact.name, new))
    return artifact.name


def used(package: str, name: StoreName, home: Home, scratch: Path, old: Path, new: Path) -> Use:
    """Run a package's use at `new` with an empty mount over `old`."""
    work, out = scratch / f"work-{package}", scratch / f"out-{package}"
    _stage_sources(package, home, scratch, work)
    out.mkdir(parents=True)
    prefix = f"{Store(directory=new).location.decode()}/{name}"
    (work / "use.sh").write_text(
        "set -eu -o pipefail\nmkdir -p /tmp/use; cd /tmp/use\n" + textwrap.dedent(USES[package])
    )
    box = Sandbox(
        operations=(
            *root_of(_tools(home, scratch)),
            Proc(),
            Devices(),
            Tmpfs(target="/tmp"),
            Bind(source=str(work), target="/build", writable=True),
            Bind(source=str(out), target="/out", writable=True),
            Bind(source=str(new), target=str(new)),
            Tmpfs(target=str(old)),
        ),
        env={
            "HOME": "/tmp",
            "LC_ALL": "C",
            "PATH": "/usr/bin:/usr/sbin",
            "PREFIX": prefix,
            "TMPDIR": "/tmp",
            "USER": "build",
        },
        cwd="/build",
    )
    with (out / "said").open("wb") as said:
        words = ["/usr/bin/strace", "-f", "-qqq", "-s", "4096", "-e", "trace=%file", "-o", "/out/trace"]
        fd = said.fileno()
        ended = run(box, [*words, "/bin/bash", "/build/use.sh"], stdout=fd, stderr=fd, timeout=3000)
    below_old, below_new = _looked_for(out / "trace", old, new)
    text = (out / "said").read_text(errors="replace")
    return Use(status=ended.status, said=text, below_old=below_old, below_new=below_new)


def _looked_for(trace: Path, old: Path, new: Path) -> tuple[tuple[str, ...], int]:
    """Return the paths below `old`, or the placeholder, that a trace names, and how many are below `new`."""
    pattern = re.compile(rb'"((?:%s|%s)/[^"]*)"' % (re.escape(bytes(old)), re.escape(PLACEHOLDER.encode())))
    found, count = set(), 0
    with trace.open("rb") as lines:
        for line in lines:
            found |= {match.decode(errors="replace") for match in pattern.findall(line)}
            count += b'"%s/' % bytes(new) in line
    return tuple(sorted(found)), count


def _recipe(name: str, scratch: Path) -> Path:
    """Copy an example, so that its lock is not written beside it."""
    place = scratch / f"recipe-{name}"
    if not place.exists():
        shutil.copytree(EXAMPLES / name, place)
    return place


def _stage_sources(name: str, home: Home, scratch: Path, work: Path) -> None:
    order = order_of(_recipe(name, scratch), home, Options(), quiet)
    files = fetch(order.lock, home)
    for key, items in order.lock.sources.items():
        (work / key).mkdir(parents=True)
        for item in items:
            unpack(files[item.sha256], work / key, strip_top=True, mtime=EPOCH)


def _tools(home: Home, scratch: Path) -> Environment:
    """Return the environment that packages are used in."""
    place = scratch / "tools"
    place.mkdir(exist_ok=True)
    packages = ", ".join(f'"deb:{name}"' for name in _TOOLS)
    (place / "belljar.toml").write_text(
        f"""\
[package]
name = "tools"
version = "1"
[environment]
suite = "bookworm"
packages = [{packages}]
[environment.links]
"/usr/bin/awk" = "gawk"
"/usr/bin/cc" = "gcc"
[build]
script = "true"
"""
    )
    order = order_of(place, home, Options(), quiet)
    files = fetch(order.lock, home)
    return materialise(order.lock.environment, order.recipe.environment.links, files, home=home)
