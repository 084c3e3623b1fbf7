"""A Java runtime and its configuration move to a path of any length, and run.

Debian has the configuration in /etc, and links to it: two prefixes move at once. Where both were is covered.
"""

import base64
import os
import shutil
import zlib

import compilers
import pytest
from foreign_forms import inside

from belljar.relocate.foreign.moves import Moves
from belljar.relocate.foreign.plan import plan
from belljar.relocate.moving import apply
from belljar.sandbox import Bind, Tmpfs

HOME, ETC = "/usr/lib/jvm/java-17-openjdk-amd64", "/etc/java-17-openjdk"
SOURCE = """
public class H {
    public static void main(String[] a) throws Exception {
        System.out.println(System.getProperty("java.home"));
        System.out.println(java.security.Security.getProperty("keystore.type"));
        java.time.ZoneId zone = java.time.ZoneId.of("Europe/Paris");
        System.out.println(java.time.ZonedDateTime.of(2024, 7, 1, 0, 0, 0, 0, zone).getOffset());
        java.util.logging.Logger.getLogger("h").info("logged");
    }
}
"""
# What javac --release 17 -g:none makes of SOURCE, by zlib and base85.
CLASS = (
    "c-nna+j0^?5IqAV1DlNkF(lsaaf!-$iC1z_6Evx!DpX<RL7!F_$VAwomcf$G(g&n`@B{o3zrwO-"
    "S5gT<r)qbmr%#{hIo<Q~_xB$F*6_wc3~`QxjVVksqz}ALp4;;Lrn~#$K-"
    "4tD^s4lwUT26q`Mng9NO4#;W?&zKSNmNp+JsU)3Yss69;w_)Abnlcf$-"
    "YJBu+7;jHj@#+QK5Tw2ch13^PrkD}m~WK=&DzobnN7O%%;y{^XX0GnnVd*;v3L!`y^38F<H7EuWH_#JZQnIfmJfg7Q~^DCm"
    "BN61#vj$3=!*7|<29ULbYft^Qpkahbs`^-RKU#S3KD!c|=3xNhSHZjOY}vMt<q$`?CzhL~#n_hLuDbg^4-"
    "IP!*VnPK5LpuXj4@s=!x6=x?JCppGx52Hf%J2vj3K-D1KcN>kaprS20<1vvZ)cKwf`Tm%QQICWoK4f6~79Qa-"
    "#}gY*@r(#VWKYYM+fvOYUDhqrEQ09V(Yo+&Q6|Jv7Zs^1&8DcE1J`V<oAM{5-"
    "%uPcD3NWlHdUPjO0+#mrO!F<C)J+8Dt)erj+V;ra=ae(P>4G8P-"
    "!>lnV1m+GY^ISFUiW#%xIok{s#6X1f=i^n*=lNZL*Ae^(%OGc8Jph%$eocA<jq34F8qpi8zhyr6H~iu{6N#0o?3^Ay%@_2U"
    "v|*x9Cd{R|)t7YZ>ih"
)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """Java's home and its configuration in one tree, as hard links to what was unpacked."""
    top = tmp_path_factory.mktemp("java")
    root = compilers.environment("jre").path
    for old, name in ((HOME, "java"), (ETC, "java/etc")):
        shutil.copytree(root / old[1:], top / name, symlinks=True, copy_function=linked)
    (top / "java/H.class").write_bytes(zlib.decompress(base64.b85decode(CLASS)))
    return top / "java"


def linked(source, target):
    try:
        os.link(source, target)
    except OSError:  # another file system, or somebody else's file
        shutil.copy2(source, target)


def java(tree, place):
    mounts = (Tmpfs(target="/usr/lib/jvm"), Tmpfs(target=ETC), Bind(source=str(tree), target=place))
    script = f"{place}/bin/java -version; {place}/bin/java -cp {place} H"
    status, said, asked = inside(script, mounts, packages="jre")
    return status, said, [path for path in asked if f"{path}/".startswith((f"{HOME}/", f"{ETC}/"))]


@pytest.mark.parametrize("place", ["/srv/java".ljust(len(HOME), "x"), "/j", "/srv/" + "longer-" * 20])
def test_a_java_runtime_moves_to_a_path_of_any_length(runtime, tmp_path, place):
    tree = shutil.copytree(runtime, tmp_path / "java", symlinks=True, copy_function=linked)
    assert java(tree, place)[0] != 0, "the control: the links lead nowhere"
    found = plan(tree, Moves.of([(HOME, place), (ETC, f"{place}/etc")]))
    assert not found.refusals
    apply(found)
    status, said, old = java(tree, place)
    assert (status, old) == (0, []), said
    assert 'openjdk version "17' in said
    assert f"{place}\npkcs12\n+02:00\n" in said
    assert "INFO: logged" in said
