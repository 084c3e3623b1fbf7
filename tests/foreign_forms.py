"""Trees as Spack, Homebrew, Nix and conda have them, built by a real compiler at their place, run elsewhere.

Everything is built and run in a root of Debian's packages, in which the tree lies where it says it does. When
it is run, an empty directory covers where it was built, and the supervisor tells which files are asked for.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import compilers

from belljar.build.sandboxed import root_of
from belljar.sandbox import Bind, Devices, Lookup, Policy, Proc, Sandbox, Tmpfs, Trace, run

LIBRARY = """
#include <stdio.h>
#ifdef TELL
int where(void) {
    FILE *f = fopen(P "/share/w.txt", "r");
    char s[99];
    return !f || !fgets(s, 99, f) || puts(s) < 0;
}
#else
int where(void) { return puts("found") < 0; }
#endif
"""
PROGRAM = """
#include <stdio.h>
#include <string.h>
extern int where(void);
#ifdef TELL
static const char *const config = Q "/etc/app.conf";
int main(int argc, char **argv) {
    char name[256], list[512];
    strcpy(name, Q); strcat(name, "/etc/app.conf");
    strcpy(list, "PATH=" P "/bin:" Q "/bin");
    FILE *f = fopen(name, "r");
    if (!f || !fopen(config, "r") || strcmp(name, config)) return 2;
    puts(list);
    return where();
}
#else
int main(void) { return where(); }
#endif
"""
# $P: the library's prefix, $Q: the program's, $T: -DTELL or nothing.
BUILD = r"""
mkdir -p $P/lib/pkgconfig $P/lib/cmake/w $P/include $P/share $P/bin $Q/bin $Q/etc $Q/libexec
echo "text of w" > $P/share/w.txt; echo "setting=$P/share" > $Q/etc/app.conf
echo "int where(void);" > $P/include/w.h
gcc -O2 $T -DP="\"$P\"" -fPIC -shared -Wl,-soname,libw.so.1 -o $P/lib/libw.so.1 lib.c
ln -s $P/lib/libw.so.1 $P/lib/libw.so
gcc -O2 $T -DP="\"$P\"" -DQ="\"$Q\"" -Wl,-rpath,$P/lib:$P/lib64 -o $Q/libexec/app app.c $P/lib/libw.so
printf 'prefix=%s\nlibdir=${prefix}/lib\nName: w\nDescription: w\nVersion: 1\n' $P > $P/lib/pkgconfig/w.pc
printf 'Libs: -L%s/lib -Wl,-rpath,%s/lib -lw\nCflags: -I%s/include\n' $P $P $P >> $P/lib/pkgconfig/w.pc
printf "dlname='libw.so.1'\nlibdir='%s/lib'\ndependency_libs=' -L%s/lib'\n" $P $P > $P/lib/libw.la
printf 'set(W_LOCATION "%s/lib/libw.so.1")\n' $P > $P/lib/cmake/w/w-config.cmake
cp /bin/dash $Q/bin/sh
printf '#!%s/bin/sh -e\n# a wrapper\nexec "%s/libexec/app" "$@"\n' $Q $Q > $Q/bin/app; chmod +x $Q/bin/app
printf '#!/bin/sh\nexport W_HOME="%s"\nPATH="%s/bin:$PATH"\n' $P $Q > $Q/etc/activate.sh
"""
USE = r"""
$Q/bin/app; $Q/libexec/app
. $Q/etc/activate.sh; test "$W_HOME" = "$P"; test -f "$W_HOME/share/w.txt"; app
test "$(readlink -f $P/lib/libw.so)" = "$(readlink -f $P/lib/libw.so.1)"
. $P/lib/libw.la; test -f "$libdir/$dlname"
CMAKE_CURRENT_LIST_DIR=$P/lib/cmake/w
eval "test -f $(sed -n 's/set(W_LOCATION \(.*\))/\1/p' $CMAKE_CURRENT_LIST_DIR/w-config.cmake)"
export PKG_CONFIG_PATH=$P/lib/pkgconfig
printf '#include <w.h>\nint main(void) { return where(); }' > /tmp/u.c
gcc $(pkg-config --cflags w) -o /tmp/u /tmp/u.c $(pkg-config --libs w); /tmp/u
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a package manager lays out two packages below its root; what it does besides building them."""

    root: str
    library: str
    program: str
    more: str = ""


FORMS = {
    "spack": Form(
        root="/opt/spack/opt/spack/linux-debian12-x86_64/gcc-12.2.0",
        library="libw-1.0-vqxydwgwnpz4k2o7hnyxqkzdnzkbsfuy",
        program="app-2.0-h7c3qkdzp5y4m2o7hnyxqkzdnzkbabcd",
        more='mkdir $Q/.spack; printf \'{"prefix": "%s", "deps": ["%s"]}\' $Q $P > $Q/.spack/spec.json',
    ),
    "homebrew": Form(
        root="/home/linuxbrew/.linuxbrew",
        library="Cellar/libw/1.0",
        program="Cellar/app/2.0_1",
        more="mkdir -p $R/opt $R/bin; ln -s ../Cellar/libw/1.0 $R/opt/libw;"
        "ln -s ../Cellar/app/2.0_1/bin/app $R/bin/app;"
        ' printf \'{"runtime_dependencies": ["%s"]}\' $R/opt/libw > $Q/INSTALL_RECEIPT.json',
    ),
    "nix": Form(
        root="/nix/store",
        library="0123456789abcdfghijklmnpqrsvwxyz-libw-1.0",
        program="zyxwvsrqpnmlkjihgfdcba9876543210-app-2.0",
        more="mkdir $R/.links; ln $P/share/w.txt $R/.links/w; printf '%s\\n' $P > $Q/propagated-build-inputs",
    ),
    "conda": Form(
        root="/opt/conda/envs/analysis-2024",
        library="",
        program="",
        more="mkdir $R/conda-meta;"
        'printf \'{"files": ["bin/app"], "link": {"source": "%s"}}\' $R > $R/conda-meta/app.json',
    ),
}


def _names(form: Form, root: str) -> str:
    library, program = (os.path.join(root, name).rstrip("/") for name in (form.library, form.program))
    return f"R={root} P={library} Q={program}\n"


def build(form: Form, tree: Path, work: Path, *, tell: bool) -> None:
    """Build the packages of a form at its root; the files come into `tree`."""
    tree.mkdir(parents=True)
    work.mkdir()
    (work / "lib.c").write_text(LIBRARY)
    (work / "app.c").write_text(PROGRAM)
    flag = "-DTELL" if tell else ""
    script = f"T={flag}\n{_names(form, form.root)}cd /w\n{BUILD}\n{form.more}\n"
    status, said, _ = inside(script, (Bind(source=str(work), target="/w"), _at(tree, form.root)))
    assert status == 0, said


def use(form: Form, tree: Path, root: str) -> tuple[int, str, list[str]]:
    """Use the packages that lie at `root` now; return status, output, what was asked for at the old root."""
    mounts = (Tmpfs(target=form.root), _at(tree, root))
    status, said, asked = inside(f"{_names(form, root)}{USE}", mounts)
    return status, said, [path for path in asked if f"{path}/".startswith(f"{form.root}/")]


def _at(tree: Path, root: str) -> Bind:
    return Bind(source=str(tree), target=root, writable=True)


def inside(
    script: str, mounts: Sequence[Bind | Tmpfs], *, packages: str = "run-small"
) -> tuple[int, str, list[str]]:
    """Run a shell script in a root of packages; return status, output, and each path that was asked for."""
    asked: list[str] = []
    box = Sandbox(
        operations=(
            *root_of(compilers.environment(packages)),
            Proc(),
            Devices(),
            Tmpfs(target="/tmp"),
            *mounts,
        ),
        env={"PATH": "/usr/bin", "HOME": "/tmp", "LC_ALL": "C"},
        cwd="/tmp",
    )
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as output:
        try:
            ended = run(
                box,
                ["/usr/bin/bash", "-euc", script],
                stdout=writer,
                stderr=writer,
                timeout=120,
                policy=Policy(trace=Trace.ASKED),
                on_event=lambda event: asked.append(event.path) if isinstance(event, Lookup) else None,
            )
        finally:
            os.close(writer)
        return ended.status, output.read().decode(), asked
